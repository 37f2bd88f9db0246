"""Upload a built folder to the Hub."""

import json
from collections.abc import Mapping
from pathlib import Path

import yaml
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from data_scripts.harness.archive import NO_LICENSE
from data_scripts.harness.errors import BuildError


__all__ = ["push_folder"]


def push_folder(
    folder: Path, repository: str, environment: Mapping[str, str], *, private: bool = False, below_gate: bool = False
) -> str:
    """Upload a folder as one commit of a data set repository, which is made if absent.

    Args:
        folder: What `build` wrote.
        repository: `owner/name`.
        environment: Environment variables; `HF_TOKEN` is the token, and no stored one is used.
        private: Whether a new repository is private.
        below_gate: Upload although a quality gate failed.

    Returns:
        Address of the commit.

    Raises:
        BuildError: If the folder was not built here, failed a gate, may not be published, the token is absent, or the
            Hub refuses.
    """
    if not (folder / "README.md").is_file():
        raise BuildError(f"folder must be what build wrote, with a README.md; got {folder}. Build it first.")
    failed = _failed_gates(folder)
    if failed and not below_gate:
        raise BuildError(
            f"{folder} must pass its quality gates; got {', '.join(failed)}. See quality/quality.md, and "
            "pass --allow-below-gate to upload it all the same."
        )
    if _license_name(folder) == NO_LICENSE and not private:
        raise BuildError(
            f"{folder} must have a licence to be published; got {NO_LICENSE}. Pass --private, or have leave of its "
            "authors stated in the README.md."
        )
    token = environment.get("HF_TOKEN", "").strip()
    if not token:
        raise BuildError("HF_TOKEN must hold a token that may write to the repository; got nothing. Set it.")
    api = HfApi(endpoint=environment.get("HF_ENDPOINT") or None, token=token)
    try:
        api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=repository, folder_path=folder, repo_type="dataset", commit_message="Build")
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).replace(token, "***")
        raise BuildError(f"the Hub did not take {repository}: {type(error).__name__}: {reason}") from None
    return str(commit.commit_url)


def _license_name(folder: Path) -> str | None:
    header = (folder / "README.md").read_text(encoding="utf-8").removeprefix("---\n").partition("\n---")[0]
    try:
        read = yaml.safe_load(header)
    except yaml.YAMLError as error:
        raise BuildError(f"the README.md of {folder} must begin with YAML between two lines of ---; {error}") from None
    return str(read.get("license_name")) if isinstance(read, dict) else None


def _failed_gates(folder: Path) -> list[str]:
    """Name the gates that failed; derived data sets have none."""
    report = folder / "quality" / "quality.json"
    if not report.exists():
        return []
    return [str(gate) for gate in json.loads(report.read_text(encoding="utf-8"))["failed_gates"]]
