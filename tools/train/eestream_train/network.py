# SPDX-License-Identifier: MIT
"""What the networks trained here have in common: sizes, outputs, the walk through blocks and exits.

`state_dict()` has the canonical names (`blk.3.attn.qkv.weight`, `exit.0.head.cls.weight`), so that
files of every framework are read through `engine` and written through `names` alone. Shapes: B
frames, C channels, K classes, g x g grid of N patches, T tokens: the special ones (class, with DeiT
also distillation, with Swin none) first, then the patches row by row.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from . import heads

N_SPECIAL = {"vit": 1, "deit": 2, "dinov2": 1, "swin": 0}  # tokens before the patches, by family


@dataclass(frozen=True)
class Shape:
    """Sizes of one model. `exits` are (1-based block, head name), in order of depth. Of a Swin,
    hidden_size, n_heads and mlp_size are the first stage's and double from stage to stage."""

    n_classes: int
    family: str = "vit"
    image_size: int = 224
    patch_size: int = 16
    hidden_size: int = 384
    n_layers: int = 12
    n_heads: int = 6
    mlp_size: int = 1536
    norm_eps: float = 1e-6
    exits: tuple[tuple[int, str], ...] = ()
    depths: tuple[int, ...] = ()  # Swin: blocks a stage, n_layers in all
    window: int = 7  # Swin: side, in tokens

    def __post_init__(self) -> None:
        blocks = [block for block, _ in self.exits]
        if self.family not in N_SPECIAL:
            raise ValueError(f"family {self.family!r}: expected one of {', '.join(N_SPECIAL)}")
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is no multiple of {self.patch_size}")
        if blocks != sorted(set(blocks)) or not all(1 <= b <= self.n_layers for b in blocks):
            raise ValueError(f"exits after blocks {blocks}: expected strictly increasing ones from "
                             f"1 to {self.n_layers}")
        if sum(self.depths) != (self.n_layers if self.family == "swin" else 0):
            raise ValueError(f"depths {self.depths}: a Swin's are n_layers ({self.n_layers}) in "
                             "all, others have none")
        for s in range(len(self.depths)):
            if (self.grid >> s) % self.window or self.grid % (1 << s):
                raise ValueError(f"stage {s} of a grid of {self.grid}: expected a multiple of the "
                                 f"window, {self.window}")

    @property
    def grid(self) -> int:
        return self.image_size // self.patch_size

    @property
    def n_special(self) -> int:
        return N_SPECIAL[self.family]

    @property
    def exit_blocks(self) -> tuple[int, ...]:
        return tuple(block for block, _ in self.exits)

    @property
    def head_types(self) -> tuple[str, ...]:
        return tuple(head for _, head in self.exits)

    def stage_of(self, block: int) -> int:
        """Stage of a 1-based block; a ViT is one stage."""
        ends = [sum(self.depths[:s + 1]) for s in range(len(self.depths))]
        return sum(block > end for end in ends)

    def at(self, block: int) -> Shape:
        """Sizes that a head behind a block sees."""
        if self.family != "swin":
            return self
        scale = 2 ** self.stage_of(block)
        return replace(self, exits=(), depths=(self.n_layers,), n_heads=self.n_heads * scale,
                       hidden_size=self.hidden_size * scale, mlp_size=self.mlp_size * scale,
                       patch_size=self.patch_size * scale)


@dataclass
class Outputs:
    """What a forward pass gives. Exit entries are in order of depth; `logits` is None where the
    pass ended at an exit."""

    embeddings: Tensor
    hidden: list[Tensor] = field(default_factory=list)  # [B, T, C] after each block
    exit_features: list[Tensor] = field(default_factory=list)  # [B, n, C] before pooling, or empty
    exit_logits: list[Tensor] = field(default_factory=list)  # [B, K]
    logits: Tensor | None = None


class Network(nn.Module):
    """Backbone, exits and final classifier. A family makes the parts and writes the methods."""

    def __init__(self, shape: Shape, embed: nn.Module, blk: list[nn.Module], norm: nn.Module,
                 head: nn.Module) -> None:
        super().__init__()
        self.shape = shape
        self.embed, self.blk, self.norm, self.head = embed, nn.ModuleList(blk), norm, head
        self.exit = nn.ModuleList(heads.make(name, shape.at(block)) for block, name in shape.exits)

    def tokens(self, pixels: Tensor) -> Tensor:
        """The first block's input."""
        raise NotImplementedError

    def behind(self, block: int, x: Tensor) -> Tensor:
        """What happens between a 1-based block, its exit included, and the next one."""
        return x

    def final(self, x: Tensor) -> Tensor:
        """Logits of the last block's output."""
        raise NotImplementedError

    def between(self, first: int, end: int) -> list[nn.Module]:
        """The parts that blocks first + 1 .. end consist of."""
        return [*self.blk[first:end]]

    def forward(self, pixels: Tensor, exits: tuple[int, ...] | None = None,
                to_end: bool = True) -> Outputs:
        """Run blocks and the exits of the given indices (None: all), whatever a policy would do;
        without `to_end` stop at the last of them. pixels [B, 3, S, S]; S may be another than the
        shape's where position tables can be resampled."""
        s = self.shape
        wanted = range(len(s.exits)) if exits is None else exits
        exit_at = {s.exits[k][0]: self.exit[k] for k in wanted}
        x = self.tokens(pixels)
        out = Outputs(x)
        for block in range(1, (s.n_layers if to_end else max(exit_at)) + 1):
            x = self.blk[block - 1](x)
            out.hidden.append(x)
            if block in exit_at:
                features, logits = exit_at[block](x)
                out.exit_features.append(features)
                out.exit_logits.append(logits)
            x = self.behind(block, x)
        if to_end:
            out.logits = self.final(x)
        return out


def initialise(module: nn.Module) -> None:
    """Truncated normal weights (sigma 1/sqrt(fan-in)), zero biases."""
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        fan_in = module.weight[0].numel()
        nn.init.trunc_normal_(module.weight, std=fan_in ** -0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
