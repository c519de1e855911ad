"""Layer 5: models."""

from rnnlab.models.language import LanguageModel as LanguageModel
from rnnlab.models.language import generate as generate
