from tests.reliability.ranks import launch_pair as launch_pair
from tests.reliability.ranks import pair_ending as pair_ending
from tests.reliability.runs import launch as launch
from tests.reliability.runs import uninterrupted as uninterrupted
from tests.training.conftest import compile_once as compile_once
from tests.training.conftest import make_config as make_config
from tests.training.conftest import make_task as make_task
from tests.training.conftest import saved_bytes as saved_bytes
