"""The Transformer decoder that learns the affinity W (paper section 3.1.2, Eq. 2-7).

Follows the published program where it differs from the paper's text: self-attention among the
queries, logits scaled by 1 / sqrt(head width), biases and output projections, a last LayerNorm,
post-norm.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ttp_jax.models.layers import Linear, torch_default, torch_default_bias


def _packed_xavier(key, shape, dtype=jnp.float32):
    """Draw a packed [D, 3 D] matrix Xavier-uniformly, as torch does for the in-projection."""
    return nn.initializers.xavier_uniform()(key, shape, dtype)


class Attention(nn.Module):
    """Multi-head attention with torch's packed projections: query [B, K, D], memory [B, n, D]."""

    heads: int
    dropout: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, query, memory, train: bool):
        width = query.shape[-1]
        kernel = self.param("in_kernel", _packed_xavier, (width, 3 * width)).astype(self.dtype)
        bias = self.param("in_bias", nn.initializers.zeros, (3 * width,)).astype(self.dtype)

        def project(x, part):
            columns = slice(part * width, (part + 1) * width)
            y = x.astype(self.dtype) @ kernel[:, columns] + bias[columns]
            return y.reshape(*y.shape[:-1], self.heads, width // self.heads)

        q, k, v = project(query, 0), project(memory, 1), project(memory, 2)
        logits = jnp.einsum("bqhd,bkhd->bhqk", q, k) / (width // self.heads) ** 0.5
        weights = nn.softmax(logits.astype(jnp.promote_types(jnp.float32, logits.dtype)))
        weights = nn.Dropout(self.dropout)(weights.astype(self.dtype), deterministic=not train)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(query.shape)
        return Linear(width, dtype=self.dtype, name="out")(mixed)


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention, feed-forward; each with dropout, residual, LayerNorm."""

    heads: int
    ffn_dim: int
    dropout: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, query, memory, train: bool):
        def drop(x):
            return nn.Dropout(self.dropout)(x, deterministic=not train)

        def norm(name, x):
            return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)(x)

        self_attention = Attention(self.heads, self.dropout, self.dtype, name="self_attention")
        cross_attention = Attention(self.heads, self.dropout, self.dtype, name="cross_attention")
        x = norm("norm1", query + drop(self_attention(query, query, train)))
        x = norm("norm2", x + drop(cross_attention(x, memory, train)))
        y = drop(nn.relu(Linear(self.ffn_dim, dtype=self.dtype, name="ffn1")(x)))
        y = Linear(query.shape[-1], dtype=self.dtype, name="ffn2")(y)
        return norm("norm3", x + drop(y))


class AffinityDecoder(nn.Module):
    """Features F [B, h, w, D] -> affinity W [B, K, M], whose rows sum to 1 (Eq. 7).

    The learned queries Q_sup are the decoder's input; neither they nor F have position encodings.
    """

    num_joints: int
    num_maps: int
    layers: int = 1
    heads: int = 4
    ffn_dim: int = 1024
    dropout: float = 0.1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features, train: bool) -> jax.Array:
        batch, _, _, width = features.shape
        memory = features.reshape(batch, -1, width)
        queries = self.param("queries", nn.initializers.normal(1.0), (self.num_joints, width))
        x = jnp.broadcast_to(queries.astype(self.dtype), (batch, *queries.shape))
        for i in range(self.layers):
            layer = DecoderLayer(
                self.heads, self.ffn_dim, self.dropout, self.dtype, name=f"layer{i}"
            )
            x = layer(x, memory, train)
        x = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name="norm")(x)
        logits = Linear(
            self.num_maps,
            kernel_init=torch_default,
            bias_init=torch_default_bias(width),
            dtype=self.dtype,
            name="affinity",
        )(x)
        return nn.softmax(logits.astype(jnp.promote_types(jnp.float32, logits.dtype)))
