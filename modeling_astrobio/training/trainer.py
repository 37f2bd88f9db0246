"""The trainer every recipe builds on: transformers' own, with whole checkpoints and no logits in evaluation."""

import shutil
from pathlib import Path

import torch
from transformers import Trainer
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

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
        self.add_callback(ProgressBarCallback())
        self.add_callback(self.interrupt)

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

    def _save_checkpoint(self, model, trial):
        run_dir = Path(self.args.output_dir)
        target = run_dir / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        staging = run_dir / ".saving"
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._staging = staging
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                publish_folder(staging / target.name, target)
        except BaseException as error:
            if is_write_failure(error):
                shutil.rmtree(staging, ignore_errors=True)
                raise write_failure(target, error) from error
            raise
        finally:
            self._staging = None
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
            self._remove_old_checkpoints(run_dir)
        self.accelerator.wait_for_everyone()

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
