"""Layer 5: models."""

from rnnlab.models.adaptive_softmax import AdaptiveSoftmax as AdaptiveSoftmax
from rnnlab.models.classifier import Classifier as Classifier
from rnnlab.models.generation import generate as generate
from rnnlab.models.generation import generate_batch as generate_batch
from rnnlab.models.language import LanguageModel as LanguageModel
from rnnlab.models.neighbours import nearest_neighbours as nearest_neighbours
from rnnlab.models.regularisation import Regularisation as Regularisation
from rnnlab.models.softmax import Softmax as Softmax
from rnnlab.models.tcn import TCN as TCN
from rnnlab.models.transformer import Transformer as Transformer
from rnnlab.models.window_mlp import WindowMLP as WindowMLP
