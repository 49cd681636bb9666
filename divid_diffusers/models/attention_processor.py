"""
Attention among the pixels of a frame, and over its two tokens with keys and values that may be kept from step to step.
"""

from dataclasses import dataclass, field

import torch
from diffusers.models.attention_processor import Attention
from torch.nn import functional as F


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """
    Scaled-dot-product attention. Training in bfloat16 on a CPU computes it in float32: the backward pass of torch's
    fused kernel takes ten times as long in bfloat16 (torch 2.6 to 2.13, 10 to 256 tokens).
    """
    if query.dtype == torch.bfloat16 and query.device.type == "cpu" and torch.is_grad_enabled():
        with torch.autocast("cpu", enabled=False):
            out = F.scaled_dot_product_attention(query.float(), key.float(), value.float())
        return out.to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value)


class PixelAttnProcessor:
    """Stock self-attention over `(frames, pixels, width)`, by [`attend`]."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if encoder_hidden_states is not None or attention_mask is not None:
            raise ValueError(
                "Pixels look at all pixels of their own frame: there is no context to give and nothing to mask."
            )
        layers = attn.to_q, attn.to_k, attn.to_v
        query, key, value = (layer(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2) for layer in layers)
        out = attend(query, key, value)
        return attn.to_out[1](attn.to_out[0](out.transpose(1, 2).flatten(-2)))


@dataclass
class ContextCache:
    """
    A context `(frames, 2, width)` with the keys and values that the cross-attention layers made of it so far. Each
    layer adds its own where it first meets the context: elsewhere its weights may be offloaded.
    """

    context: torch.Tensor
    keys_and_values: dict[Attention, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)


class StaticDynamicAttnProcessor:
    r"""
    Attention over exactly two keys is a gate. With the tokens in the order [s, d_i] the softmax is a sigmoid:

        g   = sigmoid(q . (k_s - k_d) / sqrt(c))          one number per head and pixel
        out = v_d + g (v_s - v_d)

    which equals stock scaled-dot-product attention and needs no attention matrix. `g` says how much a pixel reads from
    the static token. `encoder_hidden_states` is either the context `(frames, 2, width)` or a [`ContextCache`].
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | ContextCache,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if attention_mask is not None:
            raise ValueError("There is nothing to mask: drop a token with `drop_static` or `drop_dynamic` instead.")
        key, value = self.keys_and_values(attn, encoder_hidden_states)
        query = attn.to_q(hidden_states).unflatten(-1, (attn.heads, -1))
        gate = self.gate(query, key, attn.scale)
        value = value.unflatten(-1, (attn.heads, -1))
        value_static, value_dynamic = value[:, :1], value[:, 1:]
        out = torch.addcmul(value_dynamic, gate, value_static - value_dynamic).flatten(-2)
        return attn.to_out[1](attn.to_out[0](out))

    @staticmethod
    def keys_and_values(attn: Attention, context: torch.Tensor | ContextCache) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values `(frames, 2, heads * c)` of this layer."""
        if not isinstance(context, ContextCache):
            return attn.to_k(context), attn.to_v(context)
        if attn not in context.keys_and_values:
            context.keys_and_values[attn] = attn.to_k(context.context), attn.to_v(context.context)
        return context.keys_and_values[attn]

    @staticmethod
    def gate(query: torch.Tensor, key: torch.Tensor, scale: float) -> torch.Tensor:
        """The weight `(frames, pixels, heads, 1)` of the static token; query `(frames, pixels, heads, c)`."""
        key = key.unflatten(-1, (query.shape[2], -1))
        logits = torch.einsum("flhc,fhc->flh", query, (key[:, 0] - key[:, 1]) * scale)
        return logits.sigmoid().unsqueeze(-1)
