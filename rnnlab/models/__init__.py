"""Layer 5: models."""

from rnnlab.models.classifier import Classifier as Classifier
from rnnlab.models.language import LanguageModel as LanguageModel
from rnnlab.models.language import generate as generate
