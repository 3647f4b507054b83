"""One retraining: from a base version and a plan to new weights and an audit log."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import nn

from undrift.errors import TrainingError
from undrift.model.names import not_finite
from undrift.model.network import blamed, forward_with_embedding, load_weights
from undrift.records import Reference
from undrift.train.blocks import Blocks
from undrift.train.budget import Budget, Meter
from undrift.train.guide import Guide
from undrift.train.methods.registry import get_method
from undrift.train.methods.sampling import Seen
from undrift.train.objective import objective_for
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool, split_pool
from undrift.train.result import Progress, TrainResult
from undrift.train.schedule import adam, make_dense, paced, rate
from undrift.train.settings import TrainSettings
from undrift.train.setup import Setup
from undrift.train.temper import temper
from undrift.train.trainee import Trainee

_ROUND = 10  # steps between two looks at the guiding loss and two choices of a block
_MAX_NORM = 1.0  # gradients are clipped to this norm


class Checkpoints(Protocol):
    """Where a retraining that is interrupted takes up again."""

    def load(self) -> dict[str, Any] | None:
        """Return the newest state, the same on every worker; None if there is none."""

    def offer(self, state: Callable[[], dict[str, Any]]) -> None:
        """Keep the state, or leave it if the last one is recent enough; called every round."""


def retrain(
    trainee: Trainee,
    base_state: Mapping[str, torch.Tensor],
    pool: Pool,
    reference: Reference,
    plan: RetrainPlan,
    *,
    settings: TrainSettings,
    progress: Callable[[Progress], None] | None = None,
    checkpoints: Checkpoints | None = None,
) -> TrainResult:
    """Retrain a model from its base version.

    All workers call this with the same arguments but ``trainee.comm``; they draw the same batches,
    each trains on its part of every batch, and gradients and rewards are averaged, so the number
    of workers does not change the outcome beyond rounding.

    Args:
        trainee: The model; its weights are overwritten, and parameters that require no gradient
            stay as they are. On a GPU it is trained in mixed precision (bfloat16).
        base_state: Weights of the base version.
        pool: Labelled rows.
        reference: Reference of the base version.
        plan: What to do.
        settings: How to do it.
        progress: Called once a round.
        checkpoints: Where to take up an interrupted run, and to keep this one.

    Raises:
        TrainingError: The pool cannot be trained on, training diverged, or the budget does not
            cover a single step.
        ModelError: The weights do not fit, or the model has no linear head.
    """
    required = [(p, p.requires_grad) for p in trainee.model.parameters()]
    try:
        run = _Retraining(trainee, base_state, pool, reference, plan, settings)
        earlier = checkpoints.load() if checkpoints is not None else None
        if earlier is not None:
            run.load(earlier)
        while not run.finished:
            report = run.round()
            if progress is not None:
                progress(report)
            if checkpoints is not None:
                checkpoints.offer(run.state)
        return run.result()
    finally:
        for parameter, needed in required:
            parameter.requires_grad_(needed)
            parameter.grad = None


class _Retraining:
    """The state of one retraining."""

    def __init__(
        self,
        trainee: Trainee,
        base_state: Mapping[str, torch.Tensor],
        pool: Pool,
        reference: Reference,
        plan: RetrainPlan,
        settings: TrainSettings,
    ) -> None:
        meter, device = Meter(trainee.comm.world), trainee.device
        method = get_method(plan.method, settings)
        trainee.load(base_state)
        torch.manual_seed(plan.seed)  # dropout and the like
        objective = objective_for(pool.y)
        objective.check(pool.y, trainee.layer)
        chosen = split_pool(
            pool,
            kind=plan.kind,
            regime_start=plan.regime_start,
            settings=settings,
            seed=plan.seed,
            numbers=trainee.numbers,
        )
        x, y = torch.as_tensor(pool.x, device=device), torch.as_tensor(pool.y, device=device)
        share = settings.retention_share * chosen.older_validity
        guide = Guide(x, y, chosen, objective, old_share=share, seed=plan.seed)
        blocks = Blocks(trainee.model, x[:2], trainee.head)
        self.setup = Setup(
            trainee=trainee,
            blocks=blocks,
            objective=objective,
            x=x,
            y=y,
            chosen=chosen,
            guide=guide,
            reference=reference,
            plan=plan,
            settings=settings,
            meter=meter,
        )
        self.guided = method.guided
        self.sampler, self.selector = method.sampler(self.setup), method.blocks(self.setup)
        self.penalty = method.penalty(self.setup)  # of the start as it was
        self.scale = temper(self.setup)
        parameters = [p for block in blocks.all for p in block.parameters]
        self.optimizer = adam(parameters, settings.learning_rate)
        self.budget = Budget.parse(plan.budget)
        self.batch_size = settings.batch_size
        if method.paced:
            rows = (self.budget.flops - meter.flops) / blocks.step_flops(0)
            self.batch_size = paced(rows, settings)
        self.steps = method.steps(plan.steps, len(chosen.index), settings.batch_size)
        self.step, self.lowest, self.spent, self.finished = 0, 0, 0.0, False
        if self.guided:
            self._look()
        self.first_guide_loss = guide.loss

    @property
    def share(self) -> float:
        """Share of the run that is over."""
        if not self.budget.limited:
            return self.step / self.steps
        meter = self.setup.meter
        return min(1.0, max(meter.flops / self.budget.flops, self.spent / self.budget.seconds))

    def _look(self) -> None:
        setup = self.setup
        setup.guide.look(setup.model, setup.blocks, setup.meter)

    def round(self) -> Progress:
        """Choose blocks, make up to ten steps, and reward the choice."""
        setup, comm = self.setup, self.setup.comm
        self.sampler.begin_round(self.share)
        self._choose_blocks()
        losses: list[torch.Tensor] = []
        while len(losses) < _ROUND and self._affords_step():
            losses.append(self._step())
        if not losses:
            self.finished = True
            if not self.step:
                raise TrainingError(
                    f"the budget {self.setup.plan.budget} does not cover one step after a set-up "
                    f"of {setup.meter.flops:.3g} FLOP and {setup.meter.seconds:.2g} s; raise it"
                )
            return self._progress(math.nan)
        self.sampler.end_round(self.step)
        mean_loss = torch.stack(losses).mean()
        buffers = [b for b in setup.model.buffers() if b.is_floating_point()]
        comm.mean_([mean_loss, *buffers])
        if self.guided:
            before = setup.guide.loss
            self._look()
            self.selector.learn(self.step, before - setup.guide.loss)
        self._check_finite(float(mean_loss))
        self.finished = not self._affords_step()
        return self._progress(float(mean_loss))

    def _choose_blocks(self) -> None:
        blocks = self.setup.blocks
        self.lowest = self.selector.choose(self.share)
        self.setup.model.train()
        blocks.activate(self.lowest)
        for block in blocks.all[: self.lowest]:
            for parameter in block.parameters:
                self.optimizer.state.pop(parameter, None)

    def _affords_step(self) -> bool:
        if not self.budget.limited:
            return self.step < self.steps
        setup = self.setup
        flops = self._rows_per_step * setup.blocks.step_flops(self.lowest)
        flops += self.sampler.draw_flops(self.batch_size)
        if self.guided:
            flops += len(setup.guide) * setup.blocks.forward_flops * setup.comm.world
        within = setup.meter.flops + flops <= self.budget.flops
        return within and self.spent < self.budget.seconds

    @property
    def _rows_per_step(self) -> int:
        return self.batch_size + self.penalty.rehearsed()

    def _step(self) -> torch.Tensor:
        setup, comm = self.setup, self.setup.comm
        loss = self._loss()
        self.optimizer.zero_grad(set_to_none=True)
        with blamed(setup.model):
            loss.backward()
        blocks = setup.blocks.all[self.lowest :]
        active = [p for b in blocks for p in b.parameters if p.grad is not None]
        make_dense(active)
        clock = loss.new_tensor([setup.meter.seconds], dtype=torch.float32)
        comm.mean_([clock, *(p.grad for p in active if p.grad is not None)])
        nn.utils.clip_grad_norm_(active, _MAX_NORM)
        for group in self.optimizer.param_groups:
            group["lr"] = rate(setup.settings.learning_rate, self.share)
        self.optimizer.step()
        self.step += 1
        if self.budget.seconds < math.inf:
            self.spent = float(clock)  # the same on every worker, so that all end together
        setup.meter.add(self._rows_per_step, setup.blocks.step_flops(self.lowest))
        return loss.detach()

    def _loss(self) -> torch.Tensor:
        """Return this worker's loss; its mean over the workers is the loss of the batch."""
        setup, comm = self.setup, self.setup.comm
        part = slice(comm.rank, None, comm.world)
        batch = self.sampler.draw(self.batch_size)
        rows = torch.as_tensor(batch.index[part], device=setup.x.device)
        weight = torch.as_tensor(batch.weight[part], device=setup.x.device)
        x, target, n = setup.x[rows], setup.y[rows], len(rows)
        rehearsed = self.penalty.rehearse(part)
        if rehearsed is not None:
            x = torch.cat([x, rehearsed])
        mixed = torch.autocast(x.device.type, torch.bfloat16, enabled=x.device.type == "cuda")
        with mixed, self.penalty.recording():
            output, embedding = forward_with_embedding(setup.model, setup.head, x)
        output = output.float()
        losses = setup.objective.losses(output[:n], target)
        seen = Seen(self.step, part, output[:n].detach(), target, embedding[:n].detach().float())
        self.sampler.learn(batch, seen)
        loss = (losses * weight).sum() * (comm.world / len(batch.index))
        term = self.penalty.term(output[n:] if rehearsed is not None else None)
        return loss if term is None else loss + term

    def _check_finite(self, loss: float) -> None:
        guide = self.setup.guide.loss
        if not math.isfinite(loss) or (self.guided and not math.isfinite(guide)):
            raise TrainingError(
                f"training diverged at step {self.step} (loss {loss:.3g}, guiding loss "
                f"{guide:.3g}); lower train.learning_rate, or look for broken inputs"
            )

    def _progress(self, loss: float) -> Progress:
        meter = self.setup.meter
        return Progress(self.step, self.share, loss, meter.flops, meter.seconds)

    def state(self) -> dict[str, Any]:
        """Return what `load` needs to go on identically, as tensors and plain values."""
        meter = self.setup.meter
        return {
            "model": self.setup.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": torch.get_rng_state(),
            "step": self.step,
            "finished": self.finished,
            "flops": meter.flops,
            "seconds": meter.seconds,
            "spent": self.spent,
            "first_guide_loss": self.first_guide_loss,
            "sampler": self.sampler.state(),
            "selector": self.selector.state(),
            "penalty": self.penalty.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        load_weights(self.setup.model, state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["generator"])
        self.step, self.finished = state["step"], state["finished"]
        self.spent, self.first_guide_loss = state["spent"], state["first_guide_loss"]
        self.sampler.load(state["sampler"])
        self.selector.load(state["selector"])
        self.penalty.load(state["penalty"])
        if self.guided:
            self._look()
        self.setup.meter.resume(state["flops"], state["seconds"])

    def result(self) -> TrainResult:
        """Return the candidate."""
        setup = self.setup
        setup.model.eval()
        state = {
            name: tensor.detach().to("cpu", copy=True).contiguous()
            for name, tensor in setup.model.state_dict().items()
        }
        if not_finite(state):
            raise TrainingError("training ended with weights that are not finite")
        metrics = {
            "candidates": float(len(setup.chosen.index)),
            "candidates_new": float(setup.chosen.new.sum()),
            "older_validity": setup.chosen.older_validity,
            "start_scale": self.scale,
            "batch_size": float(self.batch_size),
            **self.sampler.figures(),
            **self.penalty.figures(),
        }
        if self.guided:
            metrics |= {
                "first_guide_loss": self.first_guide_loss,
                "guide_loss": setup.guide.loss,
            }
        return TrainResult(
            state_dict=state,
            chosen=setup.chosen,
            choices=(*self.sampler.log, *self.selector.log),
            blocks=tuple(block.name for block in setup.blocks.all),
            steps=self.step,
            flops=setup.meter.flops,
            seconds=setup.meter.seconds,
            metrics=metrics,
        )
