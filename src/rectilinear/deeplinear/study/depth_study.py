"""The depth study: linear networks of many depths against least squares, over many trials."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rectilinear.config import to_json
from rectilinear.deeplinear.ensemble import log_grid
from rectilinear.deeplinear.study.design import (
    Model,
    Synthetic,
    SyntheticTrials,
    TableTrials,
    deep_linear,
    split_table,
)
from rectilinear.deeplinear.study.measure import Chunk, Columns, choose_step, measure_chunk
from rectilinear.deeplinear.study.result import StudyResult
from rectilinear.deeplinear.study.table import Table
from rectilinear.deeplinear.study.workers import Backend, Store, map_chunks
from rectilinear.errors import ConfigError
from rectilinear.files import locked
from rectilinear.scalars import is_count, is_within

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DepthStudy:
    """A comparison of models over many trials, with every measure of each.

    The default is the published protocol: a noisy line, one to ten layers of one unit with biases,
    uniform initial weights, 10,000 steps of gradient descent of size 1e-3, and 100 trials at each
    of four levels of noise.

    Args:
        models: the models that are compared; least squares and one to ten layers by default, of
            :func:`~rectilinear.deeplinear.deep_linear`.
        data: the distribution of the trials, where no table is given.
        trials: their number, at each level of noise; for a table, whole splits until there are at
            least as many.
        steps: the budget of each network.
        tol: the training error above least squares at which a trial converged, in the squared
            units of the target, which for a table is standardised. The default is ``D = .01`` on a
            line: ``.01^2 / 2``.
        checkpoints: their number, on a logarithmic grid of steps.
        folds: parts of each split of a table.
        tuning: trials that a step size is chosen on, where a model asks for it, of a table one
            split; none of them is reported.
        block: trials trained side by side. Results depend on it, as on the seed, and on nothing
            else of the machine.
        seed: of all random numbers.

    Raises:
        ConfigError: for a number out of range, or two models of one name.

    Reference:
        Lakkapragada, "A novel explanation against linear neural networks", arXiv 2401.00186.

    Example:
        >>> study = DepthStudy(deep_linear([1, 2]), Synthetic(noise=(0.05,)), trials=20, steps=3000)
        >>> [(cell["model"], cell["success"]) for cell in study.run().summary()]
        [('least squares', 1.0), ('depth 1, gd', 1.0), ('depth 2, gd', 0.65)]
    """

    models: tuple[Model, ...] = field(default_factory=deep_linear)
    data: Synthetic = field(default_factory=Synthetic)
    trials: int = 100
    steps: int = 10_000
    tol: float = 5e-5
    checkpoints: int = 50
    folds: int = 5
    tuning: int = 20
    block: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if not (
            isinstance(self.models, tuple | list)
            and all(isinstance(model, Model) for model in self.models)
        ):
            raise ConfigError(
                f"models = {self.models!r}", "a tuple of Model", "deep_linear(depths) makes one."
            )
        if not isinstance(self.data, Synthetic):
            raise ConfigError(
                f"data of type {type(self.data).__name__}",
                "a Synthetic, the distribution of drawn trials",
                "Give data of your own to run: study.run(table), or study.run((X, y)).",
            )
        names = [model.name for model in self.models]
        for name, given, expected, fine in (
            (
                "models",
                names,
                "at least one, each of another name",
                names and len(set(names)) == len(names),
            ),
            ("trials", self.trials, "at least two", is_count(self.trials, 2)),
            ("steps", self.steps, "at least one", is_count(self.steps, 1)),
            ("tol", self.tol, "a positive number", is_within(self.tol, 0) and self.tol > 0),
            ("checkpoints", self.checkpoints, "at least two", is_count(self.checkpoints, 2)),
            ("folds", self.folds, "at least two", is_count(self.folds, 2)),
            ("tuning", self.tuning, "at least one", is_count(self.tuning, 1)),
            ("block", self.block, "at least one", is_count(self.block, 1)),
            ("seed", self.seed, "at least 0", is_count(self.seed, 0)),
        ):
            if not fine:
                raise ConfigError(f"{name} = {given!r}", expected)

    def run(
        self,
        table: Table | tuple[Any, Any] | None = None,
        *,
        out: Path | str | None = None,
        n_jobs: int = 1,
        backend: Backend = "loky",
        address: str | None = None,
        progress: Progress | None = None,
    ) -> StudyResult:
        """The result of all trials; with ``out``, only those are run that are not stored there.

        A chunk is one model on one block of trials. With ``out``, each is stored as soon as it is
        finished, and the same call resumes an earlier one. Results are the same to the last bit for
        any number of workers.

        Args:
            table: data of one's own, or a pair of inputs and target; without, trials are drawn
                from ``data``.
            out: a folder for this study alone.
            n_jobs: worker processes on this machine, -1 for one a core.
            backend: ``loky``, processes on this machine, or a cluster of ``dask`` or ``ray``.
            address: of a Dask scheduler.
            progress: called with the number of finished chunks and of all chunks.

        Raises:
            ShapeError, NonFiniteError, DataError: for a table that cannot be studied, as in
                :class:`~rectilinear.deeplinear.study.table.Table`.
            ConfigError: if ``out`` holds another study.
            LockedError: if another process is running one in ``out``.
            DiskError: if the disk is full; finished chunks stay.
            WorkerError: if workers die again and again; finished chunks stay.
        """
        if table is not None and not isinstance(table, Table):
            table = Table.from_arrays(*table)
        if table is not None and len(table.y) < 2 * self.folds:
            raise ConfigError(
                f"{self.folds} folds of {len(table.y)} rows",
                f"at most {len(table.y) // 2}",
                "Lower --folds.",
            )
        settings = {**to_json(self), "table": None if table is None else table.fingerprint()}
        with nullcontext() if out is None else locked(out):
            store = None if out is None else Store(out, settings)
            share = partial(map_chunks, n_jobs=n_jobs, backend=backend, address=address)
            models = self._tuned(table, store, share)
            chunks = self._chunks(models, table)
            done: dict[int, Columns] = {}
            if store is not None:
                done = {number: store.load(number) for number in store.finished() & set(chunks)}
            left = {number: chunk for number, chunk in chunks.items() if number not in done}
            if progress is not None:
                progress(len(done), len(chunks))
            for number, columns in share(measure_chunk, left):
                if store is not None:
                    store.save(number, columns)
                done[number] = columns
                if progress is not None:
                    progress(len(done), len(chunks))
        return self._result(models, done, table)

    def _result(
        self, models: tuple[Model, ...], done: dict[int, Columns], table: Table | None
    ) -> StudyResult:
        """The result from the columns of all chunks, in the order of their numbers."""
        names = sorted(done)
        columns = {
            name: np.concatenate([done[number][name] for number in names])
            for name in done[names[0]]
        }
        inputs, rows = self.data.inputs, self.data.rows
        about = f"Synthetic data: {inputs} input{'s'[: inputs > 1]}, {rows:,} training rows."
        if table is not None:
            about = f"{len(table.y):,} rows, {len(table.names)} inputs, target {table.target}."
            if table.constant:
                about += f" Constant and left out: {', '.join(table.constant)}."
            if table.encoded:
                about += f" As columns of 0 and 1: {', '.join(table.encoded)}."
            if table.dropped:
                about += f" Rows left out for an empty cell: {table.dropped:,}."
            if holes := int(np.isnan(table.X).sum()):
                about += f" Empty cells filled with the means of the training set: {holes:,}."
        return StudyResult(
            self.models,
            models,
            self.steps,
            self.tol,
            log_grid(self.steps, self.checkpoints),
            columns,
            columns.pop("curve"),
            about,
            to_json(self),
            None if table is None else 1 / (self.folds - 1),
        )

    def _chunks(self, models: tuple[Model, ...], table: Table | None) -> dict[int, Chunk]:
        """The chunks by number, in the order in which they are begun: the longest first."""
        blocks = self._blocks(np.random.SeedSequence(self.seed).spawn(2)[1], table, self.trials)
        chunks = {
            b * len(models) + m: Chunk(
                m, model, source.of(model), seed, self.steps, self.tol, self.checkpoints
            )
            for b, (source, seed) in enumerate(blocks)
            for m, model in enumerate(models)
        }
        return dict(sorted(chunks.items(), key=lambda item: -item[1].cost))

    def _blocks(
        self, seed: np.random.SeedSequence, table: Table | None, trials: int
    ) -> list[tuple[SyntheticTrials | TableTrials, np.random.SeedSequence]]:
        """The trials in blocks, each with the seed of its initial weights."""
        size = self.block if table is None else self.folds
        blocks = []
        for i, child in enumerate(seed.spawn(-(-trials // size))):
            data, weights = child.spawn(2)
            if table is None:
                source: SyntheticTrials | TableTrials = SyntheticTrials(
                    self.data, data, range(i * size, min(trials, (i + 1) * size))
                )
            else:
                need_rows = any(model.kind == "relu" for model in self.models)
                source = split_table(
                    table, self.folds, data, range(i * size, (i + 1) * size), rows=need_rows
                )
            blocks.append((source, weights))
        return blocks

    def _tuned(
        self, table: Table | None, store: Store | None, share: Callable[..., Any]
    ) -> tuple[Model, ...]:
        """The models with a step size each, chosen on other trials where it was left open."""
        open_ones = {
            m: model for m, model in enumerate(self.models) if model.trained and model.lr is None
        }
        if not open_ones:
            return self.models
        kept = store.chosen() if store is not None else None
        if kept is None or not {self.models[m].name for m in open_ones} <= kept.keys():
            seed = np.random.SeedSequence(self.seed).spawn(2)[0]
            source, weights = self._blocks(seed, table, min(self.tuning, self.block))[0]
            chunks = {
                m: Chunk(
                    m, model, source.of(model), weights, self.steps, self.tol, self.checkpoints
                )
                for m, model in open_ones.items()
            }
            kept = {self.models[m].name: lr for m, lr in share(choose_step, chunks)}
            if store is not None:
                store.choose(kept)
        return tuple(replace(m, lr=kept[m.name]) if m.name in kept else m for m in self.models)
