"""Forecasters: models that read the past of a series and say what is to come."""

from rnnlab.models.forecasting.around import ChannelShared as ChannelShared
from rnnlab.models.forecasting.base import Forecaster as Forecaster
from rnnlab.models.forecasting.base import Window as Window
from rnnlab.models.forecasting.instance_norm import InstanceNorm as InstanceNorm
from rnnlab.models.forecasting.linear import DLinear as DLinear
from rnnlab.models.forecasting.linear import NLinear as NLinear
from rnnlab.models.forecasting.mlp import MLP as MLP
from rnnlab.models.forecasting.naive import Drift as Drift
from rnnlab.models.forecasting.naive import Naive as Naive
from rnnlab.models.forecasting.naive import SeasonalNaive as SeasonalNaive
from rnnlab.models.forecasting.seg_rnn import SegRNN as SegRNN
