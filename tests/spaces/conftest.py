import optuna
import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def _quiet_optuna():
    """Keep the log of every ask and tell out of the reports."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(level)


@pytest.fixture(autouse=True, scope="package")
def _small_tensors_on_one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
