import sys

import pytest

from handler.backend.tls import Tls
from handler.config import Config
from handler.errors import ConfigError
from handler.image import heic
from handler.model.contract import Resize


def test_defaults():
    config = Config.from_environ({})
    assert (config.tf_serving_address, config.model_name, config.deadline_s) == ("localhost:8500", "shapes", 20.0)
    assert (config.max_body_bytes, config.max_pixels) == (20 * 1024 * 1024, 9344 * 7008)
    assert (config.matterport.resize.min_dim, config.matterport.resize.max_dim) == (800, 1024)
    assert config.image_kinds == ("jpeg", "png", "webp")
    assert config.image_transport == "int8"
    assert (config.cors_origins, config.api_keys, config.google_cloud_project) == ((), (), "")
    assert config.matterport.labels == ()


def test_everything_can_be_set():
    config = Config.from_environ(
        {
            "TF_SERVING_ADDRESS": "unix:/tmp/tfs",
            "MODEL_NAME": "coco",
            "DEADLINE_S": "1.5",
            "MODEL_CONCURRENCY": "4",
            "MAX_BODY_BYTES": "1000",
            "MAX_PIXELS": "50e6",
            "DECODE_MEMORY_BYTES": "600e6",
            "IMAGE_KINDS": "png, avif",
            "IMAGE_TRANSPORT": "jpeg",
            "CORS_ORIGINS": "https://a.example, http://localhost:3000",
            "CORS_HEADERS": "X-Tenant, If-None-Match",
            "API_KEYS": "one, two",
            "GOOGLE_CLOUD_PROJECT": "a-project",
            "MODEL_OUTPUTS": "detection, mask/Reshape_1:0",
            "IMAGE_RESIZE_MODE": "pad64",
            "IMAGE_MIN_DIM": "0",
            "IMAGE_MAX_DIM": "512",
            "IMAGE_MIN_SCALE": "2",
            "MEAN_PIXEL": "0, -1, 2.5",
            "RPN_ANCHOR_SCALES": "8,16",
            "RPN_ANCHOR_RATIOS": "1",
            "BACKBONE_STRIDES": "4,8",
            "CLASS_NAMES": "cat, dog",
        }
    )
    assert config.tf_serving_address == "unix:/tmp/tfs"
    assert (config.max_pixels, config.decode_memory_bytes) == (50_000_000, 600_000_000)
    assert config.model_concurrency == 4
    assert config.image_kinds == ("png", "avif")
    assert config.image_transport == "jpeg"
    assert config.cors_origins == ("https://a.example", "http://localhost:3000")
    assert config.cors_headers == ("X-Tenant", "If-None-Match")
    assert (config.api_keys, config.google_cloud_project) == (("one", "two"), "a-project")
    assert config.matterport.mean == (0, -1, 2.5)
    assert config.matterport.anchors.strides == (4, 8)
    assert config.matterport.resize.mode == "pad64"
    assert config.matterport.labels == ("cat", "dog")
    assert config.matterport.outputs == ("detection", "mask/Reshape_1:0")


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        ({}, True),
        ({"API_KEYS": "one"}, False),
        ({"API_KEYS": "one", "PAGE": "on"}, True),
        ({"PAGE": "off"}, False),
        ({"PAGE": ""}, True),
    ],
)
def test_the_page_is_shown_unless_there_are_keys(environ, shown):
    assert Config.from_environ(environ).shows_page is shown


def test_resize_mode_none_is_pad64_that_never_enlarges():
    environ = {"IMAGE_RESIZE_MODE": "none", "IMAGE_MIN_DIM": "800", "IMAGE_MIN_SCALE": "2", "IMAGE_MAX_DIM": "2048"}
    assert Config.from_environ(environ).matterport.resize == Resize(mode="pad64", min_dim=0, max_dim=2048)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PAGE", "maybe", "PAGE must be one of off, on, or empty, got 'maybe'"),
        ("DEADLINE_S", "0", "DEADLINE_S must be a number above 0, 3600 at most, got '0'"),
        ("DEADLINE_S", "inf", "above 0, 3600 at most, got 'inf'"),
        ("DEADLINE_S", "1e10", "3600 at most, got '1e10'"),
        ("MODEL_CONCURRENCY", "-1", "MODEL_CONCURRENCY must be a whole number from 0, or empty for no limit, got '-1'"),
        ("MODEL_NAME", "a\udcff", "MODEL_NAME must be a non-empty text, got 'a.*udcff'"),
        ("MAX_PIXELS", "many", "MAX_PIXELS must be a whole number from 1, got 'many'"),
        ("MAX_PIXELS", "inf", "got 'inf'"),
        ("DECODE_MEMORY_BYTES", "1Gi", "DECODE_MEMORY_BYTES must be a whole number from 1, or empty for what"),
        ("IMAGE_KINDS", "jpeg,psd", "IMAGE_KINDS must be some of jpeg, png, webp, gif.*, got 'jpeg,psd'"),
        ("IMAGE_KINDS", " ", "IMAGE_KINDS must be some of"),
        ("IMAGE_TRANSPORT", "png", "IMAGE_TRANSPORT must be one of int8, jpeg, got 'png'"),
        ("CORS_ORIGINS", "example.com", "CORS_ORIGINS must be origins such as https://example.com.*got 'example.com'"),
        ("CORS_ORIGINS", "https://a.example/path", "without a path"),
        ("CORS_ORIGINS", "capacitor://", "CORS_ORIGINS must be origins"),
        ("CORS_ORIGINS", "capacitor://localhost/path", "without a path"),
        ("CORS_ORIGINS", "//localhost", "CORS_ORIGINS must be origins"),
        ("CORS_HEADERS", "X Tenant", "CORS_HEADERS must be names of request headers such as X-Tenant.*'X Tenant'"),
        ("CORS_HEADERS", "X-Tenant,", "CORS_HEADERS must be names"),
        ("CORS_ORIGINS", "*, https://a.example", "or \\* alone"),
        ("MODEL_NAME", " ", "MODEL_NAME must be a non-empty text"),
        ("IMAGE_RESIZE_MODE", "crop", "one of square, pad64, none, got 'crop'"),
        ("MODEL_OUTPUTS", "mask", "MODEL_OUTPUTS must be 2 names, comma-separated: .*, got 'mask'"),
        ("MODEL_OUTPUTS", "mask,mask", "must be 2 names"),
        ("MODEL_OUTPUTS", "a,,b", "must be 2 names"),
        ("IMAGE_MIN_DIM", "2000", r"min_dim must be in 0..max_dim \(1024\), got 2000"),
        ("TF_SERVING_ADDRESS", "localhost", "must be host:port.*, got 'localhost'"),
        ("TF_SERVING_ADDRESS", "http://localhost:8500", "must be host:port"),
        ("MEAN_PIXEL", "1,2", "MEAN_PIXEL must be 3 numbers, comma-separated, got '1,2'"),
        ("BACKBONE_STRIDES", "4.5", "positive whole numbers"),
        ("RPN_ANCHOR_SCALES", "1,2", "one scale for each stride"),
    ],
)
def test_a_wrong_setting_is_named(name, value, message):
    with pytest.raises(ConfigError, match=message):
        Config.from_environ({name: value})


def test_origins_are_as_browsers_send_them():
    text = "https://Shop.Example:443,http://a.example:80,http://localhost:3000"
    origins = Config.from_environ({"CORS_ORIGINS": text}).origins
    assert origins == ("https://shop.example", "http://a.example", "http://localhost:3000")
    apps = "Capacitor://localhost, ionic://localhost, tauri://localhost, chrome-extension://abcdefghijklmnop, null"
    assert Config.from_environ({"CORS_ORIGINS": apps}).origins == (
        *("capacitor://localhost", "ionic://localhost", "tauri://localhost"),
        *("chrome-extension://abcdefghijklmnop", "null"),
    )
    assert Config.from_environ({"CORS_ORIGINS": "app://Host:80"}).origins == ("app://Host:80",)
    assert Config.from_environ({"CORS_ORIGINS": "*"}).cors_origins == ("*",)


def test_heic_needs_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    heic.register.cache_clear()
    with pytest.raises(ConfigError, match="heic if the package pillow-heif is installed, got none"):
        Config.from_environ({"IMAGE_KINDS": "jpeg,heic"})


def test_tls_is_off_until_it_is_switched_on():
    assert Config.from_environ({}).tls is None
    assert Config.from_environ({"TF_SERVING_TLS": "on"}).tls == Tls()
    files = {"TF_SERVING_CA_FILE": "/ca", "TF_SERVING_CERT_FILE": "/cert", "TF_SERVING_KEY_FILE": "/key"}
    settings = {"TF_SERVING_TLS": "on", **files, "TF_SERVING_SERVER_NAME": "model", "TF_SERVING_AUDIENCE": "https://m"}
    config = Config.from_environ(settings)
    assert (config.tls, config.tf_serving_audience) == (Tls("/ca", "/cert", "/key", "model"), "https://m")


def test_a_version_or_a_label():
    assert Config.from_environ({"MODEL_VERSION": "12"}).model_version == 12
    assert Config.from_environ({"MODEL_VERSION": "", "MODEL_VERSION_LABEL": "canary"}).model_version_label == "canary"
    config = Config.from_environ({})
    assert (config.model_version, config.model_version_label) == (None, "")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"TF_SERVING_TLS": "yes"}, "TF_SERVING_TLS must be one of off, on, got 'yes'"),
        ({"TF_SERVING_CA_FILE": "/ca"}, "TF_SERVING_TLS must be on if TF_SERVING_CA_FILE is set"),
        ({"TF_SERVING_SERVER_NAME": "m"}, "TF_SERVING_TLS must be on if TF_SERVING_SERVER_NAME is set"),
        ({"TF_SERVING_TLS": "on", "TF_SERVING_CERT_FILE": "/c"}, "TF_SERVING_KEY_FILE must be set together, got one"),
        ({"TF_SERVING_TLS": "on", "TF_SERVING_KEY_FILE": "/k"}, "TF_SERVING_KEY_FILE must be set together, got one"),
        ({"TF_SERVING_AUDIENCE": "https://m"}, "TF_SERVING_TLS must be on if TF_SERVING_AUDIENCE is set"),
        ({"TF_SERVING_TLS": "on", "TF_SERVING_AUDIENCE": "m"}, "TF_SERVING_AUDIENCE must be the URL of a service"),
        ({"MODEL_VERSION": "v1"}, "MODEL_VERSION must be the number of a version, or empty for the latest, got 'v1'"),
        ({"MODEL_VERSION": "1", "MODEL_VERSION_LABEL": "stable"}, "must be set, got both: 1 and 'stable'"),
    ],
)
def test_settings_that_do_not_go_together(settings, message):
    with pytest.raises(ConfigError, match=message):
        Config.from_environ(settings)


def test_keys_are_never_told():
    assert "a-key" not in repr(Config.from_environ({"API_KEYS": "a-key"}))
    with pytest.raises(ConfigError, match=r"API_KEYS must be keys of printable ASCII.*in place 2") as told:
        Config.from_environ({"API_KEYS": "one,t w o,three"})
    assert not {"one", "t w o", "three"} & set(str(told.value).split(", "))
    assert "t w o" not in str(told.value)


def test_an_empty_key_is_no_key():
    assert Config.from_environ({"API_KEYS": " "}).api_keys == ()
    with pytest.raises(ConfigError, match="in place 2 an empty one"):
        Config.from_environ({"API_KEYS": "one,,three"})
