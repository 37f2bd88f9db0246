"""What Linux has and other systems lack is not relied upon. Simulated: no macOS or Windows machine ran these tests."""

import io
import os
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from training_builders import small_data_folder, small_tokenizer

from data_scripts.harness.hub_folder import DatasetCard, write_hub_folder
from modeling_astrobio.training import checkpoints
from modeling_astrobio.training.callbacks import InterruptCallback
from modeling_astrobio.training.hardware import make_output_safe


ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def rename_of_windows(monkeypatch):
    """On Windows a rename onto an existing name fails, empty folders included."""
    rename = Path.rename

    def careful(self, target):
        if Path(target).exists():
            raise FileExistsError(target)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", careful)


def test_folders_are_published_without_renaming_onto_another(tmp_path, rename_of_windows, monkeypatch):
    # Nor is a folder opened, or a file flushed that is open for reading.
    monkeypatch.setattr(checkpoints, "os", types.SimpleNamespace(name="nt"))
    target = tmp_path / "checkpoint-1"
    for content in ("one", "two"):
        with checkpoints.write_whole(target) as folder:
            (folder / "a.txt").write_text(content, encoding="utf-8")
        assert (target / "a.txt").read_text(encoding="utf-8") == content
        assert checkpoints.verify_checkpoint(target) is None
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_data_set_is_written_without_renaming_onto_another(tmp_path, rename_of_windows):
    texts = ("pretty_name", "summary", "source", "method", "limits", "license_note", "citation")
    licence = {"license": "other", "license_name": "own", "license_link": "https://example.org"}
    card = DatasetCard(name="stars", columns={"name": "Name."}, **licence, **dict.fromkeys(texts, "Stars with M☉."))
    (tmp_path / "out").mkdir()
    folder = write_hub_folder(DatasetDict({"train": Dataset.from_dict({"name": ["a"]})}), card, tmp_path / "out")
    assert "Stars with M☉." in (folder / "README.md").read_text(encoding="utf-8")
    assert b"\r" not in (folder / "README.md").read_bytes()


def test_signals_are_left_alone_outside_the_main_thread():
    before = signal.getsignal(signal.SIGTERM)
    failures = []

    def train():
        callback = InterruptCallback()
        try:
            callback.on_train_begin(None, None, None)
            assert signal.getsignal(signal.SIGTERM) is before
            callback.restore_handlers()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert failures == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_handler_that_python_does_not_know_is_given_back_as_the_default(monkeypatch):
    given = {}

    def set_handler(number, handler):
        assert callable(handler) or isinstance(handler, signal.Handlers), handler
        given[number] = handler

    monkeypatch.setattr(signal, "signal", set_handler)
    callback = InterruptCallback()
    callback.on_train_begin(None, None, None)
    assert set(given) == {signal.SIGINT, signal.SIGTERM}
    callback.restore_handlers()
    assert set(given.values()) == {signal.SIG_DFL}


def test_output_has_a_question_mark_for_what_a_code_page_lacks(monkeypatch):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="cp1252") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    with pytest.raises(UnicodeEncodeError):
        print("1.6 R⊕", flush=True)
    make_output_safe()
    print("1.6 R⊕", flush=True)
    assert streams[0].buffer.getvalue() == b"1.6 R?\n"
    # A stream without an encoding is left as it is.
    monkeypatch.setattr(sys, "stdout", object())
    make_output_safe()


# The libraries are imported first: they choose what they use by the system they find.
WITHOUT_LINUX = """
import os, signal, sys
optional = ("bitsandbytes", "torchao", "deepspeed", "triton", "flash_attn", "liger_kernel", "xformers")
for name in (*optional, "wandb", "trackio", "tensorboard"):
    sys.modules[name] = None
import accelerate, datasets, matplotlib.pyplot, peft, torch, transformers
from transformers import AutoModelForCausalLM, Trainer
torch.distributed.is_nccl_available = lambda: False
for name in ("sched_getaffinity", "fork", "forkpty", "sysconf", "sysconf_names", "getuid", "geteuid", "uname"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("resource", "fcntl", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("SIGXFSZ", "SIGUSR1", "SIGHUP", "SIGALRM", "SIGKILL"):
    delattr(signal, name)
sys.path.insert(0, sys.argv[1])
import train_llm
sys.exit(train_llm.main(sys.argv[2:]))
"""


def test_package_trains_where_linux_and_every_optional_package_are_absent(tmp_path):
    small_data_folder(tmp_path / "data")
    small_tokenizer().save_pretrained(tmp_path / "tokenizer")
    arguments = [
        "tiny",
        "device=cpu",
        f"data.dataset_name={tmp_path / 'data'}",
        f"tokenizer.path={tmp_path / 'tokenizer'}",
        "model.config.vocab_size=700",
        "data.max_rows=0",
        "evaluation.max_questions=0",
        "training.max_steps=2",
        f"output_dir={tmp_path / 'run'}",
    ]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LINUX, str(ROOT / "recipes"), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    assert (tmp_path / "run" / "result.json").is_file()
