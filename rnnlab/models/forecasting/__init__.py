"""Forecasters: models that read the past of a series and say what is to come."""

from rnnlab.models.forecasting.base import Forecaster as Forecaster
from rnnlab.models.forecasting.base import Window as Window
from rnnlab.models.forecasting.naive import Drift as Drift
from rnnlab.models.forecasting.naive import Naive as Naive
from rnnlab.models.forecasting.naive import SeasonalNaive as SeasonalNaive
