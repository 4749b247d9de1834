import pytest

from deploy.model_server.flags import FlagError, Flags, parse, usage

BASE = "--model_base_path=/models/m"


def test_defaults_are_tensorflow_servings():
    flags = parse([BASE])
    assert (flags.port, flags.model_name, flags.model_base_path) == (8500, "default", "/models/m")
    assert (flags.file_system_poll_wait_seconds, flags.max_num_load_retries) == (1, 5)
    assert flags.load_retry_interval_micros == 60_000_000
    assert not flags.enable_serialization_as_tensor_content
    assert not flags.enable_grpc_healthcheck_service
    assert flags.grpc_bind_address == "127.0.0.1"


@pytest.mark.parametrize(
    ("spelling", "value"),
    [("", True), ("=true", True), ("=True", True), ("=1", True), ("=false", False), ("=0", False)],
)
def test_booleans_in_tensorflow_servings_style(spelling, value):
    flags = parse([BASE, f"--enable_serialization_as_tensor_content{spelling}"])
    assert flags.enable_serialization_as_tensor_content is value


def test_values_keep_their_equals_signs_and_the_last_of_a_flag_counts():
    flags = parse([BASE, "--port=1", "--port=2", "--grpc_channel_arguments=grpc.max_connection_age_ms=5000,a=b"])
    assert flags.port == 2
    assert flags.channel_arguments() == (("grpc.max_connection_age_ms", 5000), ("a", "b"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "model_base_path or --model_config_file"),
        ([BASE, "--port"], "--port=value"),
        ([BASE, "--port=http"], "'http'"),
        ([BASE, "--port=65536"], "65536"),
        ([BASE, "--port=-1"], "-1"),
        ([BASE, "--grpc_max_threads=0"], "grpc_max_threads"),
        ([BASE, "--file_system_poll_wait_seconds=-1"], "poll_wait"),
        ([BASE, "--enable_grpc_healthcheck_service=maybe"], "maybe"),
        ([BASE, "--enable_grpc_healthcheck_service="], "true or false"),
        ([BASE, "--grpc_channel_arguments=a"], "key=value"),
    ],
)
def test_a_wrong_flag_is_named(arguments, words):
    with pytest.raises(FlagError) as failure:
        parse(arguments)
    assert words in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("unknown", ["--nope=1", "port=1", "-port=1", "model"])
def test_what_is_no_flag_is_printed_and_ignored(unknown, capsys):
    assert parse([unknown, BASE]) == parse([BASE])
    assert capsys.readouterr().err.startswith(f"unknown argument: {unknown};")


def test_usage_tells_every_flag():
    assert all(f"--{name}=" in usage() for name in Flags.__dataclass_fields__)
