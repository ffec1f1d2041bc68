"""Dotted names that bundles may and must not use, in `$` expressions and in Python of their own.

What is named here as harmless is let through, what is named as dangerous is called so, and all else needs trust: a list
of dangerous names alone would always lack one.
"""

from __future__ import annotations

# Reach the system, the network, other programs, or run text as code.
DANGEROUS_MODULES = frozenset(
    {
        "_posixsubprocess", "_winapi", "aiohttp", "antigravity", "asyncio", "atexit", "bdb", "boto3", "builtins",
        "cProfile", "cffi", "cloudpickle", "code", "codeop", "commands", "concurrent", "ctypes", "dbm", "dill",
        "distutils", "doctest", "ensurepip", "faulthandler", "fcntl", "ftplib", "gc", "http", "httpx", "idlelib",
        "imaplib", "imp", "importlib", "inspect", "joblib", "lib2to3", "linecache", "logging.config", "marshal",
        "mmap", "multiprocessing", "nntplib", "nt", "paramiko", "pdb", "pexpect", "pickle", "pip", "pkg_resources",
        "pkgutil", "platform", "poplib", "posix", "profile", "psutil", "pty", "py_compile", "pydoc", "requests",
        "resource", "runpy", "sched", "setuptools", "shelve", "shutil", "signal", "site", "smtplib", "socket",
        "socketserver", "ssl", "subprocess", "sys.path", "sysconfig", "tarfile", "telnetlib", "tempfile", "test",
        "timeit", "torch.classes", "torch.distributed.rpc", "torch.hub", "torch.load", "torch.ops", "torch.package",
        "torch.utils.cpp_extension", "torch.utils.model_zoo", "trace", "turtle", "unittest", "urllib", "urllib3",
        "venv", "webbrowser", "wget", "winreg", "wsgiref", "xmlrpc", "zipapp", "zipfile", "zipimport",
    }
)  # fmt: skip
# Modules that others carry along, as in monai.utils.misc.subprocess.
DANGEROUS_WITHIN = frozenset(
    {
        "builtins", "ctypes", "importlib", "meta_path", "modules", "os", "path_hooks", "pickle", "setrecursionlimit",
        "settrace", "shutil", "socket", "subprocess", "sys", "urllib",
    }
)  # fmt: skip
# Whatever they are called on.
DANGEROUS_ATTRIBUTES = frozenset(
    {
        "Popen", "ag_frame", "check_call", "check_output", "chmod", "chown", "co_code", "connect", "cr_frame",
        "dlopen", "download_and_extract", "download_url", "execl", "execle", "execlp", "execv", "execve", "execvp",
        "extractall", "f_builtins", "f_globals", "f_locals", "fork", "forkpty", "func_globals", "getoutput",
        "gi_frame", "hardlink_to", "import_module", "kill", "killpg", "load_library", "load_module", "load_url",
        "popen", "posix_spawn", "putenv", "removedirs", "rename", "rmdir", "rmtree", "run_module", "run_path",
        "spawnl", "spawnv", "startfile", "symlink_to", "system", "tb_frame", "touch", "unlink", "urlopen",
        "urlretrieve", "write_bytes", "write_text",
    }
)  # fmt: skip
DANGEROUS_BUILTINS = frozenset(
    {
        "__build_class__", "__builtins__", "__import__", "__loader__", "__spec__", "breakpoint", "compile", "delattr",
        "eval", "exec", "exit", "getattr", "globals", "help", "input", "locals", "memoryview", "quit", "setattr",
        "vars",
    }
)  # fmt: skip
# Ways from any object to all the rest of Python.
DANGEROUS_DUNDERS = frozenset(
    {
        "__base__", "__bases__", "__builtins__", "__class_getitem__", "__closure__", "__code__", "__del__",
        "__dict__", "__func__", "__getattribute__", "__globals__", "__import__", "__init_subclass__", "__loader__",
        "__module__", "__mro__", "__reduce__", "__reduce_ex__", "__self__", "__set_name__", "__setstate__",
        "__spec__", "__subclasses__", "__subclasshook__", "__wrapped__",
    }
)  # fmt: skip
HARMLESS_BUILTINS = frozenset(
    {
        "False", "None", "True", "abs", "all", "any", "bool", "dict", "enumerate", "filter", "float", "frozenset",
        "int", "isinstance", "iter", "len", "list", "map", "max", "min", "next", "range", "reversed", "round", "set",
        "sorted", "str", "sum", "tuple", "zip",
    }
)  # fmt: skip
# Methods and attributes of what configs refer to.
HARMLESS_ATTRIBUTES = frozenset(
    {
        "append", "attach", "count", "device", "dtype", "endswith", "epoch", "exists", "get", "index", "is_dir",
        "is_file", "items", "iteration", "iterdir", "join", "joinpath", "keys", "lower", "lstrip", "max_epochs",
        "metrics", "mkdir", "name", "ndim", "output", "parameters", "parent", "replace", "resolve", "rstrip", "run",
        "set_trainer", "shape", "size", "split", "startswith", "state", "stem", "strip", "suffix", "tell", "to",
        "type", "upper", "values", "zfill",
    }
)  # fmt: skip
HARMLESS_NAMES = frozenset(
    {
        "datetime.datetime.now", "datetime.timedelta", "glob.glob", "math.ceil", "math.floor", "math.log", "math.pi",
        "math.prod", "math.sqrt", "monai.data.decollate_batch", "monai.data.partition_dataset",
        "monai.handlers.from_engine", "monai.utils.first", "monai.utils.set_determinism", "np.array", "np.float32",
        "np.float64", "np.int64", "np.mean", "np.prod", "np.uint8", "numpy.array", "numpy.float32", "numpy.float64",
        "numpy.int64", "numpy.mean", "numpy.prod", "numpy.uint8", "os.path.abspath", "os.path.basename",
        "os.path.dirname", "os.path.exists", "os.path.isdir", "os.path.isfile", "os.path.join", "os.path.splitext",
        "pathlib.Path", "time.strftime", "time.time", "torch.backends.cudnn.benchmark", "torch.bfloat16",
        "torch.bool", "torch.channels_last", "torch.channels_last_3d", "torch.contiguous_format",
        "torch.cuda.device_count", "torch.cuda.is_available", "torch.cuda.set_device", "torch.device",
        "torch.distributed.destroy_process_group", "torch.distributed.get_rank", "torch.distributed.get_world_size",
        "torch.distributed.init_process_group", "torch.distributed.is_initialized", "torch.float16", "torch.float32",
        "torch.float64", "torch.half", "torch.int32", "torch.int64", "torch.long", "torch.manual_seed",
        "torch.nn.SyncBatchNorm.convert_sync_batchnorm", "torch.nn.parallel.DistributedDataParallel",
        "torch.set_num_threads", "torch.tensor", "torch.uint8",
    }
)  # fmt: skip
# Read by name only; what is written into them reaches other programs.
HARMLESS_ENVIRONMENT = frozenset({"LOCAL_RANK", "RANK", "WORLD_SIZE"})
HARMLESS_IMPORTS = frozenset(
    {"datetime", "glob", "math", "monai", "numpy", "os", "pathlib", "sys", "time", "torch", "torch.distributed"}
)
USUAL_ALIASES = {"numpy": "np", "torch.distributed": "dist"}
# What Python of a bundle's own may import besides these.
HARMLESS_IN_PYTHON = HARMLESS_IMPORTS | frozenset(
    {
        "PIL", "__future__", "abc", "bisect", "collections", "contextlib", "copy", "csv", "dataclasses", "enum",
        "fractions", "functools", "hashlib", "heapq", "ignite", "itertools", "json", "logging", "nibabel", "numbers",
        "random", "re", "scipy", "skimage", "statistics", "string", "struct", "textwrap", "threading", "typing",
        "uuid", "warnings", "zlib",
    }
)  # fmt: skip


def is_within(name: str, modules: frozenset[str]) -> bool:
    """Whether a dotted name is one of these modules or something in them."""
    parts = name.split(".")
    return any(".".join(parts[:length]) in modules for length in range(1, len(parts) + 1))
