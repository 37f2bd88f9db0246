"""The trainer every recipe builds on: transformers' own, with strategies, extra loss terms and whole checkpoints."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

from .callbacks import InterruptCallback, ProgressBarCallback
from .checkpoints import find_checkpoints, is_write_failure, publish_folder, write_failure
from .kernels import apply_strategy
from .loss_terms import LossTerm, LossTermSums
from .optimizer_sophia import HESSIAN_INTERVAL, estimate_hessian
from .optimizers import build_optimizer, embedding_weights
from .schedules import build_schedule
from .strategy import Strategy


__all__ = ["AstroTrainer"]


class AstroTrainer(Trainer):
    """`transformers.Trainer` whose checkpoints appear whole or not at all, and which saves when interrupted.

    Args:
        *args: As for `transformers.Trainer`.
        strategy: Chooses optimizer, checkpointing and kernels; `None` is the default of `Strategy`.
        schedule: Of the learning rate, one of `recipe.SCHEDULE_NAMES`.
        loss_terms: Added to the model's loss in training.
        **kwargs: As for `transformers.Trainer`.

    Attributes:
        interrupt: Says, after training, whether a signal ended it.
    """

    def __init__(
        self,
        *args,
        strategy: Strategy | None = None,
        schedule: str = "cosine",
        loss_terms: Sequence[LossTerm] = (),
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.strategy = strategy or Strategy()
        assert self.model is not None
        apply_strategy(self.model, self.strategy, self.args.device)
        self.schedule = schedule
        self.loss_terms = tuple(loss_terms)
        self._term_sums = LossTermSums()
        self._step_of_last_terms = 0
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

    def create_optimizer(self, model=None):
        """Make the strategy's optimizer; norms and biases have no weight decay."""
        if self.optimizer is None:
            model = self.model if model is None else model
            decayed = set(self.get_decay_parameter_names(model))
            named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
            self.optimizer = build_optimizer(
                self.strategy,
                [
                    {"params": [p for name, p in named if name in decayed], "weight_decay": self.args.weight_decay},
                    {"params": [p for name, p in named if name not in decayed], "weight_decay": 0.0},
                ],
                learning_rate=self.args.learning_rate,
                betas=(self.args.adam_beta1, self.args.adam_beta2),
                eps=self.args.adam_epsilon,
                weight_decay=self.args.weight_decay,
                embeddings=embedding_weights(model),
            )
            if self.args.fp16:
                # A fused kernel that skips a step itself does not say so, and the schedule would go on without it.
                self.optimizer._step_supports_amp_scaling = False
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None):
        """Make the schedule of the learning rate."""
        if self.lr_scheduler is None:
            options: Any = self.args.lr_scheduler_kwargs or {}
            optimizer = optimizer or self.optimizer
            self.lr_scheduler = build_schedule(  # type: ignore[assignment]
                self.schedule,
                optimizer,
                num_training_steps,
                self.args.get_warmup_steps(num_training_steps),
                **options,
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def training_step(self, model, inputs, num_items_in_batch=None):
        """Do a micro-batch; before every tenth step's first one, Sophia estimates the curvature on it."""
        if self.strategy.optimizer == "sophia" and self.state.global_step % HESSIAN_INTERVAL == 0:
            is_first = all(parameter.grad is None for parameter in model.parameters())
            if is_first:
                seed = self.args.seed + self.state.global_step
                estimate_hessian(self.optimizer, model, self._prepare_inputs(inputs), seed=seed)
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the model's loss with the weighted terms; each term is a mean over the micro-batches of a step."""
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        if self.loss_terms and self.model.training:
            # A loss that the model did not normalise over the whole step is divided by the caller, terms and all.
            is_normalised = self.model_accepts_loss_kwargs and num_items_in_batch is not None
            for term in self.loss_terms:
                value = term.compute(model, inputs, outputs)
                share = value / self.current_gradient_accumulation_steps
                loss = loss + term.weight_at(self.state.global_step) * (share if is_normalised else value)
                self._term_sums.add(term.name, share)
        return (loss, outputs) if return_outputs else loss

    def log(self, logs, start_time=None):
        """Log, with the terms of the loss beside the training loss."""
        if self.loss_terms and "loss" in logs:
            steps = self.state.global_step - self._step_of_last_terms
            logs.update(self._term_sums.drain(steps, lambda value: self.accelerator.gather(value).mean()))
            self._step_of_last_terms = self.state.global_step
        super().log(logs, start_time)

    def _init_training_state(self, max_steps, *args, **kwargs):
        # Shares of the run become steps, which the checkpoint to resume from states too; and steps that changed since
        # it was written count.
        self.state.compute_steps(self.args, max_steps)
        for name in ("logging_steps", "eval_steps", "save_steps"):
            setattr(self.args, name, getattr(self.state, name))
        trained = super()._init_training_state(max_steps, *args, **kwargs)
        self.state.compute_steps(self.args, max_steps)
        self._step_of_last_terms = self.state.global_step
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
            if self.is_fsdp_enabled:
                # transformers' own leaves out a model whose checkpoints are in parts.
                weights = self.accelerator.get_state_dict(self.model)
                if self.args.should_save:
                    self._save(str(staging / target.name), state_dict=weights)
            else:
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
