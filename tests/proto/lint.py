#!/usr/bin/python3
"""Checks the style of the schemas: the rules of buf's STANDARD set, and a comment on everything.

Schemas that others define (THIRD_PARTY) are exempt. Prints one line a finding; exit code 1 when
there is one.
"""

import argparse
import re
import sys

import descriptors

THIRD_PARTY = {"google.rpc", "grpc.health.v1"}
PASCAL = re.compile(r"[A-Z][A-Za-z0-9]*")
LOWER_SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
UPPER_SNAKE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
VERSION = re.compile(r"v[1-9][0-9]*((alpha|beta)[1-9][0-9]*)?")


def upper_snake(pascal):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", pascal).upper()


class Linter:
    """Collects the findings of one FileDescriptorSet."""

    def __init__(self):
        self.findings = []
        self._used_by = {}  # message -> rpc that has it as request or response
        self._file = None
        self._comments = {}
        self._lines = {}

    def lint(self, descriptor_set):
        for file in descriptor_set.file:
            if file.package not in THIRD_PARTY:
                self._lint_file(file)
        return self.findings

    def _find(self, path, rule, words):
        line = self._lines.get(path)
        place = self._file.name + (f":{line}" if line else "")
        self.findings.append(f"{place}: {rule}: {words}")

    def _lint_file(self, file):
        self._file = file
        self._comments = {}
        self._lines = {}
        for location in file.source_code_info.location:
            path = tuple(location.path)
            self._lines.setdefault(path, location.span[0] + 1)
            self._comments.setdefault(
                path, (location.leading_comments + location.trailing_comments).strip())
        self._lint_package(file)
        for name, message, path in descriptors.messages(file):
            self._lint_message(name, message, path)
        for name, enum, path in descriptors.enums(file):
            self._lint_enum(name, enum, path)
        for name, service, path in descriptors.services(file):
            self._lint_service(name, service, path)

    def _lint_package(self, file):
        if file.syntax != "proto3":
            self._find((), "SYNTAX_PROTO3", f"expected proto3, found {file.syntax or 'proto2'}")
        folder, _, name = file.name.rpartition("/")
        if not LOWER_SNAKE.fullmatch(name.removesuffix(".proto")):
            self._find((), "FILE_LOWER_SNAKE_CASE", f"{name} is not lower_snake_case")
        if not file.package:
            self._find((), "PACKAGE_DEFINED", "the file has no package")
            return
        if folder != file.package.replace(".", "/"):
            self._find((), "PACKAGE_DIRECTORY_MATCH", f"{file.package} lies in {folder or '.'}")
        parts = file.package.split(".")
        if not VERSION.fullmatch(parts[-1]):
            self._find((), "PACKAGE_VERSION_SUFFIX", f"{file.package} does not end in a version")
        if not all(LOWER_SNAKE.fullmatch(part) for part in parts):
            self._find((), "PACKAGE_LOWER_SNAKE_CASE", f"{file.package} is not lower_snake_case")
        if file.public_dependency:
            self._find((), "IMPORT_NO_PUBLIC", "the file has a public import")

    def _comment(self, path, what):
        if not self._comments.get(path):
            self._find(path, "COMMENT", f"{what} has no comment")

    def _lint_message(self, name, message, path):
        if not PASCAL.fullmatch(message.name):
            self._find(path, "MESSAGE_PASCAL_CASE", f"{name} is not PascalCase")
        self._comment(path, f"message {name}")
        for i, field in enumerate(message.field):
            field_path = path + (descriptors.MESSAGE_FIELD, i)
            if not LOWER_SNAKE.fullmatch(field.name):
                self._find(field_path, "FIELD_LOWER_SNAKE_CASE",
                           f"{name}.{field.name} is not lower_snake_case")
            self._comment(field_path, f"field {name}.{field.name}")
        for oneof in message.oneof_decl:
            # protoc makes one named _field for every optional field.
            if not oneof.name.startswith("_") and not LOWER_SNAKE.fullmatch(oneof.name):
                self._find(path, "ONEOF_LOWER_SNAKE_CASE",
                           f"{name}.{oneof.name} is not lower_snake_case")

    def _lint_enum(self, name, enum, path):
        if not PASCAL.fullmatch(enum.name):
            self._find(path, "ENUM_PASCAL_CASE", f"{name} is not PascalCase")
        self._comment(path, f"enum {name}")
        prefix = upper_snake(enum.name) + "_"
        for i, value in enumerate(enum.value):
            value_path = path + (descriptors.ENUM_VALUE, i)
            if not UPPER_SNAKE.fullmatch(value.name):
                self._find(value_path, "ENUM_VALUE_UPPER_SNAKE_CASE",
                           f"{value.name} is not UPPER_SNAKE_CASE")
            if not value.name.startswith(prefix):
                self._find(value_path, "ENUM_VALUE_PREFIX",
                           f"{value.name} does not start with {prefix}")
            if value.number == 0 and value.name != prefix + "UNSPECIFIED":
                self._find(value_path, "ENUM_ZERO_VALUE_SUFFIX",
                           f"expected {prefix}UNSPECIFIED = 0, found {value.name}")
        if enum.options.allow_alias:
            self._find(path, "ENUM_NO_ALLOW_ALIAS", f"{name} has two names for one number")

    def _lint_service(self, name, service, path):
        if not PASCAL.fullmatch(service.name):
            self._find(path, "SERVICE_PASCAL_CASE", f"{name} is not PascalCase")
        if not service.name.endswith("Service"):
            self._find(path, "SERVICE_SUFFIX", f"{name} does not end in Service")
        self._comment(path, f"service {name}")
        for i, method in enumerate(service.method):
            self._lint_method(f"{name}.{method.name}", service, method,
                              path + (descriptors.SERVICE_METHOD, i))

    def _lint_method(self, name, service, method, path):
        if not PASCAL.fullmatch(method.name):
            self._find(path, "RPC_PASCAL_CASE", f"{name} is not PascalCase")
        self._comment(path, f"rpc {name}")
        for type_name, suffix in ((method.input_type, "Request"), (method.output_type, "Response")):
            expected = (method.name + suffix, service.name + method.name + suffix)
            if type_name.rpartition(".")[2] not in expected:
                self._find(path, f"RPC_{suffix.upper()}_STANDARD_NAME",
                           f"{name}: expected {expected[0]}, found {type_name[1:]}")
            other = self._used_by.setdefault(type_name, f"{name} ({suffix.lower()})")
            if other != f"{name} ({suffix.lower()})":
                self._find(path, "RPC_REQUEST_RESPONSE_UNIQUE",
                           f"{name}: {type_name[1:]} is already the type of {other}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=descriptors.ROOT, help="folder of the schemas")
    arguments = parser.parse_args()
    try:
        findings = Linter().lint(descriptors.compile_folder(arguments.root))
    except descriptors.CompileError as error:
        findings = [str(error)]
    print("\n".join(findings) if findings else "schemas: no findings")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
