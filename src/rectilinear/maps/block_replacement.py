"""Blocks and spans of a network replaced by affine maps, fitted and tested on its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rectilinear.errors import ConfigError, ShapeError, StructureError
from rectilinear.maps.affine_block import AffineBlock, Shapes
from rectilinear.maps.blocks import check_alone, r2_each, worst_of
from rectilinear.maps.data_split import Portion, Portions
from rectilinear.maps.held_out_r2 import few_rows_text, too_few
from rectilinear.maps.map_forms import (
    Diagonal,
    FittedForm,
    Form,
    MapMoments,
    chosen,
    forms_between,
    module_of,
    numbers,
    products,
)
from rectilinear.maps.network_costs import MAX_NUMBERS, first_of, flops_of, parameters_of, r2
from rectilinear.maps.spans import Through, take_facts
from rectilinear.networks.batches import Batch
from rectilinear.networks.forward_pass import Output, call, forward
from rectilinear.networks.places import inner
from rectilinear.networks.token_vectors import layout_of
from rectilinear.scalars import share_text

SHARES = (0.3, 0.6, 0.1)  # of a block's time: its values, the trials of forms, the test
BUDGET = 3e11  # products that go into the fit of one block: some ten seconds


@dataclass(frozen=True)
class Replaced:
    """One block, or one span of blocks, that was replaced.

    Attributes:
        name: of the submodule, or ``"first:behind"`` for a span.
        module: its class.
        form: of the map, such as "affine" or "identity + low rank 16", and the layer that it is
            folded into.
        r2: how much of the variance of the block's output the map that was put in explains, on
            held-out samples.
        parameters_before: of the block.
        parameters_after: of the map.
        worst_r2: the least share of one number of the block's output, or of one channel: large ones
            outweigh small ones in ``r2``.
        acts_on: "rows", "tokens" or "convolution".
        rows: how many vectors the map was fitted to.
        columns: how many numbers these have.
        fitted_r2: the share that least squares explains of them, without a ridge and of full rank.
        few_rows: whether they are too few: ``r2`` is of this estimate, and says little of the
            block. In expectation the best affine map explains between ``r2`` and ``fitted_r2``.
    """

    name: str
    module: str
    form: str
    r2: float
    parameters_before: int
    parameters_after: int
    worst_r2: float = float("nan")
    acts_on: str = "rows"
    rows: int = 0
    columns: int = 0
    fitted_r2: float = float("nan")
    few_rows: bool = False

    def __str__(self) -> str:
        count = f"parameters {self.parameters_before:,} -> {self.parameters_after:,}"
        r2 = f"R² {share_text(self.r2)} (of one output at least {share_text(self.worst_r2)})"
        line = f"{self.name} ({self.module}) -> {self.form} on {self.acts_on}, {r2}, {count}"
        if self.few_rows:
            line += f"\n  {few_rows_text(self.rows, self.columns, self.r2, self.fitted_r2)}"
        return line


@dataclass(frozen=True)
class Wanted:
    """The forms of maps to try.

    Attributes:
        form: its name, or "auto".
        rank: of low-rank forms; None for several.
        enlarge: whether maps may be larger and slower than what they replace.
    """

    form: Form | str = "auto"
    rank: int | None = None
    enlarge: bool = False

    def forms(self, shapes: Shapes) -> Sequence[Form]:
        """The forms to try between two shapes."""
        known = forms_between(shapes)
        if self.form != "auto":
            chosen_forms = [form for form in known if form == self.form]
            if not chosen_forms:
                raise StructureError(
                    f"form = {self.form!r} for a block from {shapes.inside} to {shapes.outside}",
                    f"one of {', '.join(map(repr, known))}",
                    "form='auto' chooses among them.",
                )
            return chosen_forms
        return [form for form in known if "rank" in form] if self.rank else known


class Replacing:
    """Replacement of blocks of ``new`` one by one, with the outputs of ``old`` as targets."""

    def __init__(
        self,
        old: nn.Module,
        new: nn.Module,
        portions: Portions,
        wanted: Wanted,
        output: Output = None,
        advance: Callable[[str, float], None] = lambda *_: None,
    ) -> None:
        self.old, self.new, self.portions = inner(old), inner(new), portions
        self._wanted, self._output, self._advance = wanted, output, advance
        self._edited = False

    def replace(self, name: str, names: Sequence[str]) -> Replaced:
        """The replacement of the blocks with these names, fitted as one map in place of the first.

        The other blocks then return their input.
        """
        self._advance(f"{name}: values", SHARES[0])
        head = first_of(self.portions.of("fit"))
        targets = [self.old.get_submodule(n) for n in names]
        x, out = self._both(names, head)
        layout = layout_of(x, targets[0], self.old)
        shapes = Shapes.between(tuple(x.shape[1:]), tuple(out.shape[1:]), layout)
        check_alone(lambda: call(self.old, head, self._output), targets[0])
        self._check_size(shapes, targets)
        found = self._chosen(name, shapes, names, targets, head)
        calls = _form_of_call(self.old, targets[-1], targets[0], head, self._output)
        block = module_of(found, shapes, self.portions.data.like)
        stand_ins = [
            _standing_in(block, targets[0], calls),
            *(Through(parts=calls.parts) for _ in names[1:]),
        ]
        for target, stand_in in zip(targets, stand_ins, strict=True):
            take_facts(stand_in, target)
        self._advance(f"{name}: test", SHARES[2])
        self._check(names, stand_ins, head)
        quality = self._judge(names, stand_ins[0], shapes)
        for n, stand_in in zip(names, stand_ins, strict=True):
            exchange(self.new, self.new.get_submodule(n), stand_in.eval())
        self._edited = True
        return Replaced(
            name,
            type(targets[0]).__name__ if len(targets) == 1 else f"{len(targets)} blocks",
            str(found),
            quality[0],
            parameters_of(*targets),
            parameters_of(stand_ins[0]),
            quality[1],
            shapes.form,
            found.rows,
            shapes.sides[1],
            found.fitted_r2,
            too_few(found.rows, found.directions, quality[0], found.fitted_r2),
        )

    def _both(self, names: Sequence[str], batch: Batch) -> tuple[Tensor, Tensor]:
        """The input of the blocks in the new network, and their output in the old one."""
        first, last = f"{names[0]}@input", f"{names[-1]}@output"
        if not self._edited:
            at = forward(self.old, batch, [first, last], output=self._output).at
            return at[first], at[last]
        x = forward(self.new, batch, [first], output=self._output).at[first]
        return x, forward(self.old, batch, [last], output=self._output).at[last]

    def _check_size(self, shapes: Shapes, targets: Sequence[nn.Module]) -> None:
        """Raise if every form to try has more parameters than the block, unless ``enlarge``."""
        if self._wanted.enlarge:
            return
        has = parameters_of(*targets)
        sizes = [
            numbers(shapes, form, self._wanted.rank or 1) for form in self._wanted.forms(shapes)
        ]
        if min(sizes) > has:
            full = numbers(shapes, "affine")
            raise StructureError(
                f"a map of {full:,} parameters for a block of {has:,}",
                "a smaller one",
                "Pass enlarge=True.",
            )

    def _chosen(
        self,
        name: str,
        shapes: Shapes,
        names: Sequence[str],
        targets: Sequence[nn.Module],
        head: Batch,
    ) -> FittedForm:
        fitting, choosing = (MapMoments(shapes, BUDGET) for _ in range(2))
        portions: tuple[tuple[Portion, MapMoments], ...] = (("fit", fitting), ("choose", choosing))
        for portion, moments in portions:
            for batch in self.portions.of(portion):
                moments.add(*self._both(names, batch), batch.mask)
        has = parameters_of(*targets)
        runs = flops_of(self.old, head, names, self._output)[1]
        full = self._wanted

        def reduces(form: Form, rank: int | None) -> bool:
            fewer = numbers(shapes, form, rank) < has
            return fewer or 2 * products(shapes, form, rank) < runs

        def advance(trial: str, share: float) -> None:
            self._advance(f"{name}: {trial}", share * SHARES[1])

        rest = full.forms(shapes), full.rank, advance
        found = chosen(fitting, choosing, reduces, *rest)
        if found is None:
            found = chosen(fitting, choosing, lambda *_: True, *rest)
        assert found is not None
        return found

    def _check(self, names: Sequence[str], stand_ins: Sequence[nn.Module], head: Batch) -> None:
        """Raise unless replacing the blocks has the effect of replacing their output."""
        first, last = f"{names[0]}@input", f"{names[-1]}@output"
        x = forward(self.new, head, [first], output=self._output).at[first]
        with torch.no_grad():
            made = _tensor(stand_ins[0](x))
        wanted = forward(self.new, head, (), {last: lambda _: made}, output=self._output).out
        held = [self.new.get_submodule(n) for n in names]
        for module, stand_in in zip(held, stand_ins, strict=True):
            exchange(self.new, module, stand_in)
        try:
            with torch.no_grad():
                found = call(self.new, head, self._output)
        except (ShapeError, ConfigError) as error:
            why = error.__cause__ or error
            raise StructureError(
                f"a network that reads more of {names[0]} than its output: "
                f"{type(why).__name__}: {why}",
                "a block that is called and nothing else",
                "Choose another block, or take it out with fold=True.",
            ) from error
        finally:
            for module, stand_in in zip(held, stand_ins, strict=True):
                exchange(self.new, stand_in, module)
        if not torch.allclose(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max())):
            raise StructureError(
                "a network that reads more of the block than its output, such as its weight, or "
                "holds it elsewhere",
                "a block that is called and nothing else",
                "Choose another block, such as the one that holds it.",
            )

    def _judge(
        self, names: Sequence[str], stand_in: nn.Module, shapes: Shapes
    ) -> tuple[float, float]:
        """The share of variance explained: of the whole output, of its worst entry or channel."""
        pairs: list[tuple[Tensor, Tensor]] = []
        for batch in self.portions.of("test"):
            pairs.append(self._judged(names, stand_in, shapes, batch))
            if sum(out.numel() for _, out in pairs) > MAX_NUMBERS:
                break
        found, wanted = (torch.cat(rows) for rows in zip(*pairs, strict=True))
        return r2(found, wanted), worst_of(r2_each(found, wanted))[1]

    def _judged(
        self, names: Sequence[str], stand_in: nn.Module, shapes: Shapes, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        x, out = self._both(names, batch)
        with torch.no_grad():
            found, wanted = shapes.targets(_tensor(stand_in(x))), shapes.targets(out)
        if batch.mask is None or shapes.form != "tokens" or batch.mask.shape != x.shape[:2]:
            return found, wanted
        real = batch.mask.flatten().to(found.device)
        return found[real], wanted[real]


@dataclass(frozen=True)
class _CallForm:
    """The signature with which a block is called, and the form of its output.

    Attributes:
        alone: whether with one tensor and nothing else.
        first: whether a tensor comes first.
        parts: how many parts its output has; None for a tensor.
    """

    alone: bool
    first: bool
    parts: int | None


def _form_of_call(
    model: nn.Module, last: nn.Module, first: nn.Module, batch: Batch, output: Output
) -> _CallForm:
    alone: list[bool] = []
    leads: list[bool] = []
    parts: list[int | None] = []

    def before(_: nn.Module, args: tuple, kwargs: dict) -> None:
        alone.append(len(args) == 1 and not kwargs)
        leads.append(bool(args) and isinstance(args[0], Tensor))

    def after(_: nn.Module, __: tuple, out: object) -> None:
        parts.append(None if isinstance(out, Tensor) else len(out))  # type: ignore[arg-type]

    handles = (
        first.register_forward_pre_hook(before, with_kwargs=True),
        last.register_forward_hook(after),
    )
    try:
        with torch.no_grad():
            call(model, batch, output)
    finally:
        for handle in handles:
            handle.remove()
    return _CallForm(all(alone), all(leads), parts[-1])


def _standing_in(block: nn.Module, target: nn.Module, calls: _CallForm) -> nn.Module:
    """The map as a module with the block's signature."""
    if isinstance(block, AffineBlock):
        block = block.standing_in_for(target)
        if calls.alone and calls.parts is None:
            return block.plain()
    takes_more = isinstance(block, AffineBlock | Diagonal)
    fits = calls.first if takes_more else calls.alone
    return block if fits and calls.parts is None else Through(block, calls.parts)


def exchange(model: nn.Module, module: nn.Module, other: nn.Module) -> None:
    """Register ``other`` wherever ``module`` is registered."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is module:
                parent._modules[name] = other


def _tensor(out: Tensor | tuple) -> Tensor:
    return out if isinstance(out, Tensor) else out[0]
