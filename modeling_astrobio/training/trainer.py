"""The trainer every recipe builds on: transformers' own, with strategies, extra loss terms and whole checkpoints."""

import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import Trainer, TrainerState, set_seed
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

from .callbacks import EvaluationInterrupted, InterruptCallback, ProgressBarCallback, outlive_signals
from .checkpoints import find_checkpoints, is_write_failure, publish_folder, remove_checkpoint, write_failure
from .continuation import Continuation
from .ema import WeightAverage
from .kernels import apply_strategy
from .loss_guard import LossGuard, StabilitySection
from .loss_terms import LossTerm, LossTermSums
from .optimizer_sophia import HESSIAN_INTERVAL, estimate_hessian
from .optimizers import build_optimizer, embedding_weights
from .sampling import ShuffledFirst
from .schedules import build_schedule
from .strategy import Strategy
from .token_accuracy import TokenAccuracy


__all__ = ["AstroTrainer"]


class AstroTrainer(Trainer):
    """`transformers.Trainer` whose checkpoints appear whole or not at all, and which saves when interrupted.

    A step whose loss must not stand raises `LossFault` before it is logged or saved.

    Args:
        *args: As for `transformers.Trainer`.
        strategy: Chooses optimizer, checkpointing and kernels; `None` is the default of `Strategy`.
        schedule: Of the learning rate, one of `recipe.SCHEDULE_NAMES`.
        loss_terms: Added to the model's loss in training.
        stability: When a step's loss is a fault; `None` is the default of `StabilitySection`.
        skipped_steps: Steps, counted from 1, whose data is passed over without an update, as is a step with nothing to
            learn.
        ema_decay: Of the average of the weights that is evaluated and saved as the whole model; 0 keeps none.
        token_accuracy: Evaluate a causal language model by the mean loss of all tokens, and by the share of those that
            it puts first; otherwise by the mean of the batches' losses.
        shuffled_rows: Of the training rows, how many are shuffled; those after them are read last. `None` is all.
        **kwargs: As for `transformers.Trainer`.

    Attributes:
        interrupt: Says, after training, whether a signal ended it.
        average: The average of the weights, from the beginning of training on.
    """

    # Whether evaluation asks for nothing but `compute_loss`: where the loss is not that of one call of the model.
    evaluates_loss_alone = False

    def __init__(
        self,
        *args,
        strategy: Strategy | None = None,
        schedule: str = "cosine",
        loss_terms: Sequence[LossTerm] = (),
        stability: StabilitySection | None = None,
        skipped_steps: Collection[int] = (),
        ema_decay: float = 0.0,
        token_accuracy: bool = False,
        shuffled_rows: int | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.strategy = strategy or Strategy()
        assert self.model is not None
        apply_strategy(self.model, self.strategy, self.args.device)
        self.schedule = schedule
        self.loss_terms = tuple(loss_terms)
        self._term_sums = LossTermSums()
        self._step_of_last_terms = self._step_of_last_log = 0
        self.guard = LossGuard(stability or StabilitySection())
        self.skipped_steps = frozenset(skipped_steps)
        self._passed_over: set[int] = set()
        self._loss_before = torch.zeros((), device=self.args.device)
        self._judged_step = 0
        self.ema_decay = ema_decay
        self.average: WeightAverage | None = None
        self.token_accuracy = TokenAccuracy() if token_accuracy else None
        self.shuffled_rows = shuffled_rows
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
                self._start_average(resume_from_checkpoint)
                return TrainOutput(state.global_step, 0.0, {})
        try:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            self.progress.close()
            self.interrupt.restore_handlers()

    def get_train_dataloader(self):
        """Return the loader of this process; rows that are not shuffled come last."""
        loader = super().get_train_dataloader()
        if self.shuffled_rows is not None:
            loader.set_sampler(ShuffledFirst(self.shuffled_rows, len(self.train_dataset), self.args.data_seed))
        return loader

    def _get_dataloader(self, *args, **kwargs):
        loader = super()._get_dataloader(*args, **kwargs)
        # Accelerate's loader stands around torch's.
        inner = getattr(loader, "base_dataloader", loader)
        inner.worker_init_fn = partial(outlive_signals, inner.worker_init_fn)
        return loader

    def create_optimizer(self, model=None):
        """Make the strategy's optimizer; norms and biases have no weight decay."""
        if self.optimizer is None:
            model = self.model if model is None else model
            decayed = set(self.get_decay_parameter_names(model))
            named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
            self.optimizer = build_optimizer(
                self.strategy,
                self.parameter_groups(named, decayed),
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

    def parameter_groups(self, named: Sequence[tuple[str, nn.Parameter]], decayed: set[str]) -> list[dict[str, Any]]:
        """Return the groups of the optimizer: weights that decay, and others."""
        return [
            {"params": [p for name, p in named if name in decayed], "weight_decay": self.args.weight_decay},
            {"params": [p for name, p in named if name not in decayed], "weight_decay": 0.0},
        ]

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
        step = self.state.global_step + 1
        # A mean over no items at all would be no number, and nor would its gradient be.
        if step in self.skipped_steps or (num_items_in_batch is not None and int(num_items_in_batch) == 0):
            # Without gradients the optimizer leaves every weight and moment as it is.
            self._passed_over.add(step)
            return torch.zeros((), device=self.args.device)
        if self.strategy.optimizer == "sophia" and self.state.global_step % HESSIAN_INTERVAL == 0:
            is_first = all(parameter.grad is None for parameter in model.parameters())
            if is_first:
                seed = self.args.seed + self.state.global_step
                estimate_hessian(self.optimizer, model, self._prepare_inputs(inputs), seed=seed)
        return super().training_step(model, inputs, num_items_in_batch)

    def _maybe_log_save_evaluate(self, tr_loss, grad_norm, *args, **kwargs):
        # Called at the end of a step, and again at the end of an epoch. The sum of losses begins anew with each log.
        step = self.state.global_step
        if step > self._judged_step:
            self._judged_step = step
            if step not in self._passed_over:
                self._judge(tr_loss - self._loss_before, grad_norm)
                if self.average is not None:
                    self.average.update()
        try:
            super()._maybe_log_save_evaluate(tr_loss, grad_norm, *args, **kwargs)
        except EvaluationInterrupted:
            self.control.should_evaluate = False
            self.control.should_save = self.control.should_training_stop = True
            super()._maybe_log_save_evaluate(tr_loss, grad_norm, *args, **kwargs)
        self._loss_before = tr_loss.clone()

    def _judge(self, loss: torch.Tensor, grad_norm) -> None:
        """Let no step stand, on any process, whose loss or gradient is a fault."""
        if self.args.world_size > 1:
            loss = self.accelerator.reduce(loss, "mean")
        if isinstance(grad_norm, DTensor):
            grad_norm = grad_norm.full_tensor()
        # The scaler of float16 skips steps whose gradients are not finite, and goes on with a smaller factor.
        norm = None if grad_norm is None or self.args.fp16 else float(grad_norm)
        self.guard.judge(self.state.global_step, loss.item(), norm)

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
        """Log, with the terms of the loss beside the training loss, and no figures of steps that were passed over."""
        if "loss" in logs and not self._mend_loss(logs):
            return
        if self.loss_terms and "loss" in logs:
            steps = self.state.global_step - self._step_of_last_terms
            logs.update(self._term_sums.drain(steps, lambda value: self.accelerator.gather(value).mean()))
            self._step_of_last_terms = self.state.global_step
        super().log(logs, start_time)

    def _mend_loss(self, logs: dict[str, Any]) -> bool:
        """Make the loss the mean of the steps that were trained since the last log; false if there is none."""
        steps = range(self._step_of_last_log + 1, self.state.global_step + 1)
        self._step_of_last_log = self.state.global_step
        trained = len(steps) - len(self._passed_over.intersection(steps))
        if trained:
            logs["loss"] *= len(steps) / trained
        return trained > 0

    def _init_training_state(self, max_steps, *args, **kwargs):
        # Shares of the run become steps, which the checkpoint to resume from states too; and steps that changed since
        # it was written count.
        self.state.compute_steps(self.args, max_steps)
        for name in ("logging_steps", "eval_steps", "save_steps"):
            setattr(self.args, name, getattr(self.state, name))
        trained = super()._init_training_state(max_steps, *args, **kwargs)
        self.state.compute_steps(self.args, max_steps)
        self._step_of_last_terms = self._step_of_last_log = self._judged_step = self.state.global_step
        return trained

    def _prepare_for_training(self, max_steps, train_dataloader, resume_from_checkpoint):
        prepared = super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
        self._start_average(resume_from_checkpoint)
        self._loss_before = torch.zeros((), device=self.args.device)
        before = None if resume_from_checkpoint is None else Continuation.read(Path(resume_from_checkpoint))
        if before is not None:
            self.guard.restore(before.losses)
        return prepared

    def _start_average(self, checkpoint: str | None) -> None:
        # The weights are those of the optimizer only now: sharding replaces them.
        if self.ema_decay:
            self.average = WeightAverage(self.accelerator.unwrap_model(self.model), self.ema_decay)
            if checkpoint is not None:
                self.average.load(Path(checkpoint))

    def _load_rng_state(self, checkpoint):
        before = None if checkpoint is None else Continuation.read(Path(checkpoint))
        if before is not None and before.processes != self.args.world_size:
            # None of the states that were saved is that of this process.
            return set_seed(self.args.seed + self.state.global_step * self.args.world_size + self.args.process_index)
        return super()._load_rng_state(checkpoint)

    def _issue_warnings_after_load(self, load_result):
        # A tied head is stored once, as the embedding.
        tied = getattr(self.model, "all_tied_weights_keys", None) or {}
        load_result.missing_keys[:] = [key for key in load_result.missing_keys if key not in tied]
        super()._issue_warnings_after_load(load_result)

    def evaluate(self, *args, **kwargs):
        """Evaluate, leaving the random state of training as it was: a data loader draws a seed whenever it starts."""
        with torch.random.fork_rng(devices=[]), self.averaged_weights():
            return super().evaluate(*args, **kwargs)

    @property
    def is_sharded(self) -> bool:
        """Whether each process holds a part of the model, so that none can use it alone."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def averaged_weights(self) -> AbstractContextManager[None]:
        """Have the average of the weights in the model, where one is kept."""
        return nullcontext() if self.average is None else self.average.in_place()

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
                self._save_continuation(self._staging / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
            finally:
                self._staging = None
        if self.args.should_save:
            self._remove_old_checkpoints(run_dir)

    def _save_continuation(self, checkpoint: Path) -> None:
        if self.average is not None:
            self.average.save(checkpoint, self.args.should_save)
        if self.args.should_save:
            processes = self.args.world_size
            rows = processes * self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
            Continuation(processes, rows, list(self.guard.losses)).write(checkpoint)

    def save_whole_model(self, target: Path) -> None:
        """Write model and tokenizer for `from_pretrained`; called by every rank, since shards are gathered.

        Raises:
            CheckpointError: If the disk is full or a file cannot be written; `target` is then as it was.
        """
        with self.averaged_weights(), self._published(target) as staging:
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
        """Keep the newest `save_total_limit` checkpoints, and in any case the one just written."""
        limit = self.args.save_total_limit
        if limit:
            written = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            for old in [path for path in find_checkpoints(run_dir) if path.name != written][limit - 1 :]:
                remove_checkpoint(old)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Evaluate a batch; without logits where only the loss of tokens is asked for."""
        if self.evaluates_loss_alone:
            with torch.no_grad(), self.compute_loss_context_manager():
                loss = self.compute_loss(model, self._prepare_inputs(inputs))
            return loss.detach(), None, None
        if self.token_accuracy is None or not prediction_loss_only:
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        inputs = self._prepare_inputs({**inputs, "skip_logits": True})
        with torch.no_grad(), self.compute_loss_context_manager(), self.token_accuracy.watching(model, inputs):
            nats = model(**inputs, num_items_in_batch=1).loss.detach()
        self._nats_and_tokens += torch.stack([nats.double(), (inputs["labels"][:, 1:] != -100).sum().double()])
        return nats, None, None

    def evaluation_loop(self, *args, metric_key_prefix="eval", **kwargs):
        """Evaluate; of a language model every token counts alike, whichever batch it is in."""
        self._nats_and_tokens = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        if self.token_accuracy is not None:
            nats, tokens = self.accelerator.reduce(self._nats_and_tokens).tolist()
            found = self.token_accuracy.drain(lambda counts: self.accelerator.reduce(counts.to(self.args.device)))
            found["loss"] = nats / tokens if tokens else float("nan")
            output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in found.items()})
        return output
