"""Pretrained language transformers, entered at the encoder."""

from orca.bodies.body import Body, Embeddings, Encoder, LayerGroup, build_encoder, load_body
from orca.bodies.specs import BODIES, FAMILIES, BodyConfig, BodySpec
from orca.bodies.weights import BodyFiles, body_fingerprint, body_is_here, locate_body

__all__ = [
    "BODIES",
    "FAMILIES",
    "Body",
    "BodyConfig",
    "BodyFiles",
    "BodySpec",
    "Embeddings",
    "Encoder",
    "LayerGroup",
    "body_fingerprint",
    "body_is_here",
    "build_encoder",
    "load_body",
    "locate_body",
]
