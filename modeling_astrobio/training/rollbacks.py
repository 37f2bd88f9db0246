"""The steps of a run that did not stand, and whose data is passed over."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import CheckpointError, RunFolderError, TrainingFault
from .loss_guard import LossFault
from .whole_files import write_json_whole


__all__ = ["ROLLBACKS_NAME", "Rollback", "read_rollbacks", "roll_back"]


ROLLBACKS_NAME = "rollbacks.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rollback:
    """One fault, and what was done.

    Attributes:
        step: Whose data is skipped, counted from 1.
        reason: What was wrong with it.
        loss: Its loss, as text where it is no number.
        resumed_from: Name of the checkpoint that training went back to; `None` is the beginning.
    """

    step: int
    reason: str
    loss: float | str
    resumed_from: str | None


def read_rollbacks(run_dir: Path) -> list[Rollback]:
    """Return those of a run, in their order.

    Raises:
        RunFolderError: If the file cannot be read.
    """
    path = run_dir / ROLLBACKS_NAME
    if not path.is_file():
        return []
    try:
        return [Rollback(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise RunFolderError(
            f"{path} must list the steps that were undone; it cannot be read: {error}. Restore it, or remove it to "
            "learn from their data again."
        ) from error


def roll_back(
    fault: LossFault, before: list[Rollback], checkpoint: Path | None, most: int, run_dir: Path
) -> list[Rollback]:
    """Note a fault in the run's folder, so that a run that is killed and resumed skips the same data.

    Args:
        fault: What happened.
        before: The rollbacks so far.
        checkpoint: The last good one.
        most: How many rollbacks a run may have.
        run_dir: Folder of the run.

    Returns:
        All rollbacks, the new one last.

    Raises:
        TrainingFault: If there were too many.
        CheckpointError: If it cannot be noted.
    """
    where = checkpoint.name if checkpoint else "the beginning"
    if len(before) >= most:
        steps = ", ".join(str(rollback.step) for rollback in before) or "none"
        raise TrainingFault(
            f"{fault}. The run stops: stability.max_rollbacks={most}, and the data of these steps was skipped before: "
            f"{steps}. The last good state is {where}. Lower training.learning_rate or look at the data, and start a "
            "new run; to go on as it is, resume with a higher stability.max_rollbacks."
        )
    loss = fault.loss if fault.loss == fault.loss and abs(fault.loss) != float("inf") else str(fault.loss)
    now = [*before, Rollback(fault.step, fault.reason, loss, checkpoint.name if checkpoint else None)]
    try:
        write_json_whole(run_dir / ROLLBACKS_NAME, [asdict(rollback) for rollback in now])
    except OSError as error:
        raise CheckpointError(
            f"{fault}; and {ROLLBACKS_NAME} could not be written: {error}. The last good state is {where}; free "
            "space and continue with --resume."
        ) from error
    logger.warning("%s; back to %s, and the data of step %d is skipped", fault, where, fault.step)
    return now
