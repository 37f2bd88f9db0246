"""The trainer every recipe builds on: transformers' own, with whole checkpoints and no logits in evaluation."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

from .callbacks import InterruptCallback, ProgressBarCallback
from .checkpoints import find_checkpoints, is_write_failure, publish_folder, write_failure


__all__ = ["AstroTrainer"]


class AstroTrainer(Trainer):
    """`transformers.Trainer` whose checkpoints appear whole or not at all, and which saves when interrupted.

    Attributes:
        interrupt: Says, after training, whether a signal ended it.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._staging: Path | None = None
        self.interrupt = InterruptCallback()
        self.remove_callback(ProgressCallback)
        self.remove_callback(PrinterCallback)
        self.progress = ProgressBarCallback()
        self.add_callback(self.progress)
        self.add_callback(self.interrupt)

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        """Train, or continue from a checkpoint; one written after the last step is loaded and nothing is trained."""
        if resume_from_checkpoint is not None:
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / TRAINER_STATE_NAME))
            if state.global_step >= state.max_steps:
                # transformers would train one step more.
                self._load_from_checkpoint(resume_from_checkpoint)
                self.state = state
                return TrainOutput(state.global_step, 0.0, {})
        try:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            self.progress.close()
            self.interrupt.restore_handlers()

    def _init_training_state(self, max_steps, *args, **kwargs):
        # Shares of the run become steps, which the checkpoint to resume from states too; and steps that changed since
        # it was written count.
        self.state.compute_steps(self.args, max_steps)
        for name in ("logging_steps", "eval_steps", "save_steps"):
            setattr(self.args, name, getattr(self.state, name))
        trained = super()._init_training_state(max_steps, *args, **kwargs)
        self.state.compute_steps(self.args, max_steps)
        return trained

    def _issue_warnings_after_load(self, load_result):
        # A tied head is stored once, as the embedding.
        tied = getattr(self.model, "all_tied_weights_keys", None) or {}
        load_result.missing_keys[:] = [key for key in load_result.missing_keys if key not in tied]
        super()._issue_warnings_after_load(load_result)

    def evaluate(self, *args, **kwargs):
        """Evaluate, leaving the random state of training as it was: a data loader draws a seed whenever it starts."""
        with torch.random.fork_rng(devices=[]):
            return super().evaluate(*args, **kwargs)

    def _get_output_dir(self, trial):
        return str(self._staging) if self._staging is not None else super()._get_output_dir(trial)

    @contextmanager
    def _published(self, target: Path) -> Iterator[Path]:
        """Let every rank write into a folder aside; what lies there under `target`'s name becomes `target`, whole."""
        staging = target.parent / ".saving"
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        try:
            yield staging
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                publish_folder(staging / target.name, target)
        except BaseException as error:
            if is_write_failure(error):
                shutil.rmtree(staging, ignore_errors=True)
                raise write_failure(target, error) from error
            raise
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    def _save_checkpoint(self, model, trial):
        run_dir = Path(self.args.output_dir)
        with self._published(run_dir / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}") as self._staging:
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._staging = None
        if self.args.should_save:
            self._remove_old_checkpoints(run_dir)

    def save_whole_model(self, target: Path) -> None:
        """Write model and tokenizer for `from_pretrained`; called by every rank, since shards are gathered.

        Raises:
            CheckpointError: If the disk is full or a file cannot be written; `target` is then as it was.
        """
        with self._published(target) as staging:
            self.save_model(str(staging / target.name), _internal_call=True)
            if self.args.should_save:
                # A pickle of the arguments, which recipe.yaml has as text.
                (staging / target.name / TRAINING_ARGS_NAME).unlink(missing_ok=True)

    def _remove_old_checkpoints(self, run_dir: Path) -> None:
        """Keep the newest `save_total_limit` checkpoints."""
        limit = self.args.save_total_limit
        if limit:
            for old in find_checkpoints(run_dir)[limit:]:
                shutil.rmtree(old)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Evaluate without logits where only the loss is asked for."""
        if prediction_loss_only:
            inputs = {**inputs, "skip_logits": True}
        return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
