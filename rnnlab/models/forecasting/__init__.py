"""Forecasters: models that read the past of a series and say what is to come."""

from rnnlab.models.forecasting.around import ChannelShared as ChannelShared
from rnnlab.models.forecasting.autoregressive import Autoregressive as Autoregressive
from rnnlab.models.forecasting.base import Forecaster as Forecaster
from rnnlab.models.forecasting.base import Window as Window
from rnnlab.models.forecasting.catalogue import FORECASTERS as FORECASTERS
from rnnlab.models.forecasting.catalogue import ForecasterOptions as ForecasterOptions
from rnnlab.models.forecasting.deep_ar import DeepAR as DeepAR
from rnnlab.models.forecasting.direct import Direct as Direct
from rnnlab.models.forecasting.distributions import DISTRIBUTIONS as DISTRIBUTIONS
from rnnlab.models.forecasting.distributions import Gaussian as Gaussian
from rnnlab.models.forecasting.distributions import NegativeBinomial as NegativeBinomial
from rnnlab.models.forecasting.distributions import Quantiles as Quantiles
from rnnlab.models.forecasting.distributions import StudentT as StudentT
from rnnlab.models.forecasting.encoder_decoder import EncoderDecoder as EncoderDecoder
from rnnlab.models.forecasting.es_rnn import ESRNN as ESRNN
from rnnlab.models.forecasting.instance_norm import InstanceNorm as InstanceNorm
from rnnlab.models.forecasting.linear import DLinear as DLinear
from rnnlab.models.forecasting.linear import NLinear as NLinear
from rnnlab.models.forecasting.mlp import MLP as MLP
from rnnlab.models.forecasting.naive import Drift as Drift
from rnnlab.models.forecasting.naive import Naive as Naive
from rnnlab.models.forecasting.naive import SeasonalNaive as SeasonalNaive
from rnnlab.models.forecasting.seg_rnn import SegRNN as SegRNN
