from tests.compile_once import compile_once as compile_once
