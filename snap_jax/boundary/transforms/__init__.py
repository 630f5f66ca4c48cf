"""What a boundary does to a tensor before its codec, and undoes after it: links of a chain, each with two methods."""

from snap_jax.boundary.transforms.base import Transform as Transform
from snap_jax.boundary.transforms.base import TransformChain as TransformChain
from snap_jax.boundary.transforms.base import TransformMaker as TransformMaker
from snap_jax.boundary.transforms.base import chain as chain
from snap_jax.boundary.transforms.basis import Basis as Basis
from snap_jax.boundary.transforms.learned import LearnedTransform as LearnedTransform
from snap_jax.boundary.transforms.prediction import Prediction as Prediction
from snap_jax.boundary.transforms.pruned_channels import PrunedChannels as PrunedChannels
from snap_jax.boundary.transforms.stream_mixture import SentStreams as SentStreams
from snap_jax.boundary.transforms.stream_mixture import StreamMixture as StreamMixture
from snap_jax.boundary.transforms.token_embedding import EmbeddingPrediction as EmbeddingPrediction
from snap_jax.boundary.transforms.token_groups import TokenGroups as TokenGroups
from snap_jax.boundary.transforms.token_means import TokenMeans as TokenMeans
from snap_jax.boundary.transforms.weighted_basis import WeightedBasis as WeightedBasis
