"""Pretrained transformers of language and vision, entered at the encoder."""

from orca.bodies.body import Body, Embeddings, Encoder, LayerGroup
from orca.bodies.loading import architecture, build_encoder, load_body, make_body
from orca.bodies.specs import BODIES, FAMILIES, VISION, BodyConfig, BodySpec
from orca.bodies.vision import AnyEncoder, PatchEmbeddings, VisionBody, VisionEncoder
from orca.bodies.weights import BodyFiles, body_fingerprint, body_is_here, locate_body

__all__ = [
    "BODIES",
    "FAMILIES",
    "VISION",
    "AnyEncoder",
    "Body",
    "BodyConfig",
    "BodyFiles",
    "BodySpec",
    "Embeddings",
    "Encoder",
    "LayerGroup",
    "PatchEmbeddings",
    "VisionBody",
    "VisionEncoder",
    "architecture",
    "body_fingerprint",
    "body_is_here",
    "build_encoder",
    "load_body",
    "locate_body",
    "make_body",
]
