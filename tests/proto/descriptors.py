"""Schemas as descriptors: compiles a folder of .proto files and walks what is in it."""

import pathlib
import subprocess
import tempfile

from google.protobuf import descriptor_pb2

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent / "proto"

# Path steps of SourceCodeInfo: field numbers of descriptor.proto.
FILE_MESSAGE, FILE_ENUM, FILE_SERVICE = 4, 5, 6
MESSAGE_FIELD, MESSAGE_NESTED, MESSAGE_ENUM = 2, 3, 4
ENUM_VALUE = 2
SERVICE_METHOD = 2


class CompileError(Exception):
    """What protoc said."""


def compile_folder(root):
    """The FileDescriptorSet of all .proto files under `root`, comments included.

    Warnings are errors.
    """
    root = pathlib.Path(root)
    files = sorted(str(p.relative_to(root)) for p in root.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "set.binpb"
        run = subprocess.run(
            ["protoc", f"-I{root}", "--include_source_info", f"--descriptor_set_out={out}", *files],
            capture_output=True, text=True, check=False)
        if run.returncode != 0 or run.stderr:
            raise CompileError(run.stderr.strip() or f"protoc ended with {run.returncode}")
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())


def messages(file):
    """(full name, descriptor, path) of every message of a file.

    Nested ones too, map entries not.
    """
    def walk(prefix, path, message):
        name = f"{prefix}.{message.name}"
        yield name, message, path
        for i, nested in enumerate(message.nested_type):
            if not nested.options.map_entry:
                yield from walk(name, path + (MESSAGE_NESTED, i), nested)

    for i, message in enumerate(file.message_type):
        yield from walk(file.package, (FILE_MESSAGE, i), message)


def enums(file):
    """(full name, descriptor, path) of every enum of a file, nested ones too."""
    for i, enum in enumerate(file.enum_type):
        yield f"{file.package}.{enum.name}", enum, (FILE_ENUM, i)
    for name, message, path in messages(file):
        for i, enum in enumerate(message.enum_type):
            yield f"{name}.{enum.name}", enum, path + (MESSAGE_ENUM, i)


def services(file):
    """(full name, descriptor, path) of every service of a file."""
    for i, service in enumerate(file.service):
        yield f"{file.package}.{service.name}", service, (FILE_SERVICE, i)
