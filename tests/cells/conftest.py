def pytest_configure(config):
    config.addinivalue_line(
        "markers", "peers: runs other people's code, so under jax's default settings"
    )
