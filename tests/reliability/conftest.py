from tests.training.conftest import compile_once as compile_once
from tests.training.conftest import make_config as make_config
from tests.training.conftest import make_task as make_task
from tests.training.conftest import saved_bytes as saved_bytes
