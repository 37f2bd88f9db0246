"""recipes/train_llm.py from data to card, and what it says to each mistake."""

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch
import yaml
from recipe_runs import ENVIRONMENT, ROOT, SCRIPT, load_script, read_run, small_arguments, train_llm
from training_builders import mixed_rows, write_data_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

from modeling_astrobio.training.checkpoints import verify_checkpoint
from modeling_astrobio.training.llm_recipe import LLMRecipe
from modeling_astrobio.training.recipe import load_recipe
from modeling_astrobio.training.run import parse_arguments


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("train")


@pytest.fixture(scope="module")
def tiny_run(folder):
    """The tiny recipe as it ships, on the embedded planets."""
    assert train_llm.main(["tiny", "device=cpu", f"output_dir={folder / 'tiny'}"]) == 0
    return folder / "tiny"


def png_pixels(content: bytes) -> bytes:
    """Check signature, checksums and size of a PNG and return its unpacked scan lines."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    place, packed, kinds = 8, b"", []
    while place < len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        kind, body = content[place + 4 : place + 8], content[place + 8 : place + 8 + size]
        assert struct.unpack(">I", content[place + 8 + size : place + 12 + size])[0] == zlib.crc32(kind + body)
        packed += body if kind == b"IDAT" else b""
        kinds.append(kind)
        place += 12 + size
    assert kinds[0] == b"IHDR"
    assert kinds[-1] == b"IEND"
    return zlib.decompress(packed)


def test_run_leaves_everything(tiny_run):
    assert sorted(path.name for path in tiny_run.iterdir()) == [
        "checkpoint-4",
        "checkpoint-6",
        "logs",
        "loss.png",
        "metrics.jsonl",
        "model",
        "plan.json",
        "recipe.yaml",
        "report.html",
        "result.json",
        "tokenizer",
    ]
    resolved = load_recipe(LLMRecipe, tiny_run / "recipe.yaml")
    expected = load_recipe(LLMRecipe, "tiny", ["device=cpu", f"output_dir={tiny_run}"], ROOT / "recipes" / "llm")
    assert resolved == expected
    model = {path.name for path in (tiny_run / "model").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "manifest.json"} <= model
    assert {"configuration_astro_llm.py", "modeling_astro_llm.py"} <= model
    for name in ("model", "tokenizer", "checkpoint-4", "checkpoint-6"):
        assert verify_checkpoint(tiny_run / name) is None
    pixels = png_pixels((tiny_run / "loss.png").read_bytes())
    assert len(set(pixels)) > 50


def test_result_holds_every_figure(tiny_run):
    result = json.loads((tiny_run / "result.json").read_text(encoding="utf-8"))
    assert result["status"] == "finished"
    assert result["command"] == f"accelerate launch recipes/train_llm.py tiny device=cpu output_dir={tiny_run}"
    assert result["model"]["parameters"] == result["model"]["trainable_parameters"] == 112_848
    assert result["data"] == {"name": "embedded_planets", "hub": False, "config": None, "test_split": "test"}
    assert result["training"]["steps"] == 6
    assert result["training"]["resumed"] is False
    assert result["training"]["last_loss"] == read_run(tiny_run).log[6]["loss"]
    plan = json.loads((tiny_run / "plan.json").read_text(encoding="utf-8"))
    assert result["plan"] == plan
    # Float32 weights, and two float32 moments of each with a step counter.
    assert plan["device"]["optimizer"] == 2 * 4 * 112_848 + 4 * 30
    assert plan["shortfalls"] == []
    models = result["evaluation"]["models"]
    assert list(models) == ["trained", "untrained", "3-gram", "unigram", "most frequent answer"]
    assert result["evaluation"]["rows"] == 48
    for name in ("trained", "untrained", "3-gram", "unigram"):
        assert set(models[name]["documents"]) == {"perplexity", "bits_per_byte", "tokens"}
        assert models[name]["answers"]["questions"] == 4
    assert models["trained"]["documents"]["perplexity"] < 0.9 * models["untrained"]["documents"]["perplexity"]
    assert [sample["expected"] is None for sample in result["samples"]] == [False, True]
    assert {"torch", "transformers", "python"} <= set(result["versions"])
    text = json.dumps(result["hardware"])
    assert os.uname().nodename not in text


def test_training_lowers_the_loss(tiny_run):
    log = read_run(tiny_run).log
    assert log[6]["loss"] < log[1]["loss"] - 0.1


def test_card_states_what_was_measured(tiny_run):
    card = (tiny_run / "model" / "README.md").read_text(encoding="utf-8")
    result = json.loads((tiny_run / "result.json").read_text(encoding="utf-8"))
    _, header, body = card.split("---\n", 2)
    assert yaml.safe_load(header)["library_name"] == "transformers"
    for name, scores in result["evaluation"]["models"].items():
        (row,) = (line for line in body.splitlines() if line.startswith(f"| {name} |"))
        if "documents" in scores:
            assert f"| {scores['documents']['perplexity']:.3f} |" in row
        assert row.endswith("| 4 |")
    assert "{{" not in card
    assert "None" not in card
    assert str(ROOT) not in body


def test_model_loads_without_the_package(tiny_run, tmp_path):
    """As on a machine that has transformers and nothing of ours."""
    program = """
import sys, torch
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in str(finder)]
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
assert "modeling_astrobio" not in sys.modules
ids = tokenizer("Radius: 1.6 R⊕", return_tensors="pt", return_token_type_ids=False)
torch.save(model(**ids).logits, "logits.pt")
"""
    environment = {**ENVIRONMENT, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    del environment["PYTHONPATH"]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny_run / "model")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tokenizer = AutoTokenizer.from_pretrained(tiny_run / "model")
    model = AutoModelForCausalLM.from_pretrained(tiny_run / "model")
    ids = tokenizer("Radius: 1.6 R⊕", return_tensors="pt", return_token_type_ids=False)
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), model(**ids).logits, rtol=0, atol=0)


def test_run_says_nothing_that_frightens(folder, capfd):
    arguments = small_arguments(folder)
    assert train_llm.main([*arguments, "model.config.tie_word_embeddings=true", f"output_dir={folder / 'quiet'}"]) == 0
    said = capfd.readouterr()
    for word in ("Warning", "warning", "[transformers]", "Writing model shards", "Traceback", "deprecated"):
        assert word not in said.err + said.out, said.err
    for line in ("model card", "loss plot", "resolved recipe", "every figure", "trained", "--- sample 1 ---"):
        assert line in said.out


def test_launched_by_accelerate(folder, tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch"),
            *("--config_file", str(ROOT / "recipes" / "hardware" / "cpu.yaml"), str(SCRIPT)),
            *small_arguments(folder),
            f"output_dir={tmp_path / 'run'}",
        ],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert train_llm.main([*small_arguments(folder), f"output_dir={tmp_path / 'same'}"]) == 0
    read_run(tmp_path / "run").assert_same(read_run(tmp_path / "same"))


@pytest.mark.parametrize("streaming", [False, True])
def test_data_set_folder_of_the_builders(folder, tmp_path, streaming):
    data = folder / "planets"
    if not data.exists():
        subprocess.run(
            [sys.executable, "-m", "data_scripts", "build", "embedded_planets", "--out", str(data)],
            env=ENVIRONMENT,
            check=True,
            capture_output=True,
        )
    arguments = [f"data.dataset_name={data}", f"data.streaming={str(streaming).lower()}", "data.max_rows=40"]
    out = tmp_path / "run"
    assert train_llm.main([*small_arguments(folder), *arguments, f"output_dir={out}"]) == 0
    result = read_run(out).result
    assert result["data"]["name"] == str(data)
    assert result["data"]["hub"] is False
    assert result["evaluation"]["rows"] == 40
    # Of the first rows of the stream nothing is learned: they are the beginning of one conversation after another.
    assert result["rollbacks"] == []
    assert all(torch.isfinite(weight).all() for weight in read_run(out).weights.values())


def test_data_with_a_train_split_alone(folder, tmp_path, capfd):
    data = write_data_folder(tmp_path / "data", train=mixed_rows(30))
    out = tmp_path / "run"
    assert train_llm.main([*small_arguments(folder), f"data.dataset_name={data}", f"output_dir={out}"]) == 0
    assert "no split 'validation': nothing is evaluated before the end" in capfd.readouterr().out
    run = read_run(out)
    assert run.evaluations == {}
    assert run.result["evaluation"]["rows"] == 0
    assert (out / "model" / "README.md").is_file()


def test_validation_rows_stand_in_for_an_absent_test_split(folder, tmp_path):
    data = write_data_folder(tmp_path / "data", train=mixed_rows(30), validation=mixed_rows(7, 1))
    out = tmp_path / "run"
    assert train_llm.main([*small_arguments(folder), f"data.dataset_name={data}", f"output_dir={out}"]) == 0
    result = read_run(out).result
    assert result["data"]["test_split"] == "validation"
    assert result["evaluation"]["rows"] == 7
    assert "held-out `validation` split" in (out / "model" / "README.md").read_text(encoding="utf-8")


def test_trained_model_is_a_checkpoint_to_continue_from(tiny_run, tmp_path):
    out = tmp_path / "run"
    path = tmp_path / "more.yaml"
    values = {
        "model": {"checkpoint": str(tiny_run / "model")},
        "adapter": {"r": 3},
        "data": {"sequence_length": 64, "max_rows": 30},
        "evaluation": {"max_questions": 2, "max_new_tokens": 3},
        "training": {"max_steps": 2},
    }
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    assert train_llm.main([str(path), "device=cpu", f"output_dir={out}"]) == 0
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert result["model"]["start"] == "model"
    assert 0 < result["model"]["trainable_parameters"] < 0.3 * result["model"]["parameters"]
    before = json.loads((tiny_run / "result.json").read_text(encoding="utf-8"))["evaluation"]["models"]["trained"]
    after = result["evaluation"]["models"]["untrained"]
    # What was trained before is what this run starts from; other rows, so not the same figure.
    assert after["documents"]["perplexity"] < 1.5 * before["documents"]["perplexity"]


MISTAKES = {
    "unknown key": (["training.learning_rat=1"], "unknown recipe key 'training.learning_rat'. Did you mean"),
    "wrong argument": (["training.eval_strategy=often"], "often is not a valid IntervalStrategy"),
    "moved argument": (["training.optim=adamw_torch"], "training.optim is not taken; set strategy.optimizer"),
    "strategy that cannot work": (
        ["strategy.optimizer_in_backward=true"],
        "optimizer_in_backward_with_clipping: .* Set training.max_grad_norm=0",
    ),
    "strategy of another launch": (["strategy.sharding=fsdp2"], "must be what was launched; got none .*fsdp2.yaml"),
    "unknown strategy": (["--strategy", "best"], r"strategy must be a YAML file or one of \['amp_32bit', .*'best'"),
    "model that does not fit": (
        ["model.config.vocab_size=2000000000"],
        "the step does not fit: host memory must be at least .* GiB; got .* GiB.* (smallest change|No change)",
    ),
    "tracker": (["training.report_to=no_such"], "training.report_to needs packages that are not installed"),
    "unknown preset": (["model.preset=huge"], "preset must be one of .*; got 'huge'"),
    "unknown field": (["model.config.hidden_sice=8"], "'hidden_sice' is not a field .* Did you mean 'hidden_size'"),
    "wrong type": (["model.config.hidden_size=many"], "hidden_size.* expected int, got str"),
    "sizes that do not fit": (["model.config.head_dim=7"], "head_dim must be even"),
    "kernel": (["model.attn_implementation=flash"], "model.attn_implementation='flash' cannot be used"),
    "adapter": (["adapter.r=2", "adapter.target_modules=[nose]"], "the adapter section .*nose.* not found"),
    "small vocabulary": (["tokenizer.path=", "model.config.vocab_size=99"], "vocab_size must be at least 262"),
    "vocabulary below the tokenizer's": (["model.config.vocab_size=300"], "at least the tokenizer's .*; got 300"),
    "missing data set": (["data.dataset_name=absent"], "data.dataset_name='absent' .*cannot be opened"),
    "missing split": (["data.train_split=all"], r"data.train_split must be one of \['test', 'train', 'validation'\]"),
    "missing column": (["data.text_column=body"], "data.text_column must be a column of the train split, .*'body'"),
    "long rows": (["data.sequence_length=129"], r"at most the model's max_position_embeddings \(128\); got 129"),
    "tokenizer": (["tokenizer.path=absent"], "no tokenizer can be loaded from 'absent'"),
    "bad checkpoint": (["model.checkpoint=absent", "model.preset=", "model.config={}"], "cannot be loaded"),
    "resume of nothing": (["--resume"], "--resume needs a checkpoint in .*; got none. Start without --resume"),
    "resume of no folder": (["--resume", "absent"], "got 'absent', which is not a folder"),
}
if not torch.cuda.is_available():
    MISTAKES["device"] = (["device=cuda"], "device must be available; got 'cuda', and this torch .*Pass device=cpu")


def refused(arguments: list[str], message: str, capfd) -> None:
    """Run a wrong command: status 2 and one line that says what is wrong."""
    capfd.readouterr()
    assert train_llm.main(arguments) == 2
    said = capfd.readouterr()
    (line,) = (line for line in said.err.splitlines() if line.startswith("error:"))
    assert re.search(message, line), line
    assert said.err.rstrip().endswith(line)
    assert "Traceback" not in said.err + said.out


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_in_one_clear_line(folder, tmp_path, mistake, capfd):
    wrong, message = MISTAKES[mistake]
    out = tmp_path / "run"
    refused([*small_arguments(folder), f"output_dir={out}", *wrong], message, capfd)
    # The corrected command may use the same folder.
    assert not out.exists()


def test_empty_data_set_is_refused(folder, tmp_path, capfd):
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.jsonl").touch()
    arguments = [*small_arguments(folder), f"data.dataset_name={data}", f"output_dir={tmp_path / 'run'}"]
    refused(arguments, "data.dataset_name=.*data' .*cannot be opened", capfd)


def test_mistake_has_status_2_and_no_traceback_for_the_shell():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "tiny", "training.learning_rat=1"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "error: unknown recipe key 'training.learning_rat'" in done.stderr
    assert "Traceback" not in done.stderr


def test_checkpoint_with_damaged_weights_is_refused(tiny_run, folder, tmp_path, capfd):
    damaged = shutil.copytree(tiny_run / "model", tmp_path / "model")
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    arguments = [a for a in small_arguments(folder) if not a.startswith("model.")]
    arguments += [f"model.checkpoint={damaged}", "model.preset=", "model.config={}", f"output_dir={tmp_path / 'run'}"]
    refused(arguments, "model.checkpoint=.* cannot be loaded: SafetensorError", capfd)


@pytest.fixture
def finished(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")


def test_folder_of_another_run_is_refused(finished, capfd):
    before = (finished / "result.json").read_bytes()
    refused(["tiny", "device=cpu", f"output_dir={finished}"], "holds another run. Continue it with --resume", capfd)
    assert (finished / "result.json").read_bytes() == before


def test_resuming_a_changed_recipe_is_refused(finished, capfd):
    message = "the recipe differs: training.learning_rate was 0.003 and is 0.5"
    arguments = ["tiny", "device=cpu", f"output_dir={finished}", "training.learning_rate=0.5", "--resume"]
    refused(arguments, message, capfd)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_damaged_checkpoint_is_refused_and_the_last_good_one_works(finished, name, damage, capfd):
    path = finished / "checkpoint-6" / name
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    arguments = ["tiny", "device=cpu", f"output_dir={finished}", "--resume"]
    good = finished / "checkpoint-4"
    refused(
        arguments, rf"checkpoint-6 is damaged: {name} .*The last good one is {good}: pass --resume {good}\.", capfd
    )
    # One combination goes on: a run for each would take minutes.
    if (name, damage) == ("optimizer.pt", "truncated"):
        whole = read_run(finished)
        shutil.rmtree(finished / "model")
        assert train_llm.main([*arguments, "auto"]) == 0
        read_run(finished).assert_same(whole)
        assert verify_checkpoint(finished / "checkpoint-6") is None


def test_finished_run_resumes_without_training_further(finished):
    """As after a Ctrl-C in the evaluation; the last step of this recipe does not end an epoch."""
    whole = read_run(finished)
    shutil.rmtree(finished / "model")
    (finished / "result.json").unlink()
    assert train_llm.main(["tiny", "device=cpu", f"output_dir={finished}", "--resume"]) == 0
    resumed = read_run(finished)
    resumed.assert_same(whole)
    assert resumed.steps == whole.steps == [4, 6]
    assert resumed.result["evaluation"] == whole.result["evaluation"]


def test_resume_option_may_stand_anywhere():
    for arguments in (
        ["tiny", "a=1", "b=2", "--resume"],
        ["tiny", "--resume", "a=1", "b=2"],
        ["--resume", "a=1", "b=2"],
        ["a=1", "b=2", "--resume"],
    ):
        parsed = parse_arguments(train_llm.LLMTask, None, arguments)
        assert (parsed.resume, sorted(parsed.overrides)) == ("last", ["a=1", "b=2"])
        assert parsed.recipe == ("tiny" if "tiny" in arguments else "nano")
    parsed = parse_arguments(train_llm.LLMTask, None, ["tiny", "a=1", "--resume", "auto", "b=2"])
    assert (parsed.resume, parsed.overrides) == ("auto", ["a=1", "b=2"])


# The limit of a file's size stands in for a full disk: the operating system refuses the bytes in the middle of a file.
FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, sys.argv[1])
import train_llm
from transformers import TrainerCallback
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

class Fill(TrainerCallback):
    def on_save(self, args, state, control, **kwargs):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))

class FullDiskTrainer(train_llm.AstroTrainer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.add_callback(Fill())

train_llm.AstroTrainer = FullDiskTrainer
sys.exit(train_llm.main(sys.argv[3:]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs the file size limit of a Unix system")
# The first falls within the weights, of half a megabyte, the second within the optimizer's state, of twice that.
@pytest.mark.parametrize("limit", [200_000, pytest.param(800_000, marks=pytest.mark.slow)])
def test_full_disk_leaves_the_earlier_checkpoint(folder, tmp_path, limit):
    out = tmp_path / "run"
    arguments = [*small_arguments(folder), f"output_dir={out}"]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(SCRIPT.parent), str(limit), *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error:"))
    good = out / "checkpoint-2"
    assert re.search(rf"could not write .*checkpoint-4: .*The last good checkpoint is {good}; free space and", line)
    assert {path.name for path in out.iterdir()} == {
        *("checkpoint-2", "logs", "metrics.jsonl", "plan.json", "recipe.yaml", "report.html", "tokenizer")
    }
    assert verify_checkpoint(good) is None
    assert train_llm.main([*arguments, "--resume"]) == 0
    assert train_llm.main([*small_arguments(folder), f"output_dir={tmp_path / 'whole'}"]) == 0
    read_run(out).assert_same(read_run(tmp_path / "whole"))


def test_tokenizer_recipe(folder, tmp_path, capfd):
    script = load_script(Path(SCRIPT).with_name("train_tokenizer.py"))
    small_arguments(folder)
    out = tmp_path / "tokenizer"
    arguments = [str(out), "--recipe", "tiny", "--vocab-size", "300", f"data.dataset_name={folder / 'data'}"]
    assert script.main(arguments) == 0
    assert len(AutoTokenizer.from_pretrained(out)) == 300
    assert "300 tokens in" in capfd.readouterr().out
    assert script.main(arguments) == 2
    assert "error: OUT_FOLDER must be new" in capfd.readouterr().err
    assert script.main([str(tmp_path / "b"), "--recipe", "tiny", "--vocab-size", "99"]) == 2
    assert "vocab_size must be at least 262" in capfd.readouterr().err
    assert not (tmp_path / "b").exists()
