#!/usr/bin/python3
"""Checks that the schemas still understand what programs built from the baseline send.

What was there must stay: files, messages, fields (number, name, type, label, oneof), enum values,
services, rpcs and their types. New things may come at any time.

After a change that is meant to break (nothing released uses the old form), reserve the number and
name of what went, then record the new form:

    tests/proto/breaking.py --update

and commit tests/proto/baseline.txtpb with it. Additions may be recorded the same way; until they
are, they may still change.
"""

import argparse
import pathlib
import sys

import descriptors
from google.protobuf import descriptor_pb2, text_format

BASELINE = pathlib.Path(__file__).resolve().parent / "baseline.txtpb"
Field = descriptor_pb2.FieldDescriptorProto


def type_words(field):
    if field.type_name:
        return field.type_name[1:]
    return Field.Type.Name(field.type).removeprefix("TYPE_").lower()


def presence_words(message, field):
    """Label and oneof: what decides how an absent field reads."""
    if field.label == Field.LABEL_REPEATED:
        return "repeated"
    if field.proto3_optional:
        return "optional"
    if field.HasField("oneof_index"):
        return f"in oneof {message.oneof_decl[field.oneof_index].name}"
    return "singular"


def map_entries(messages):
    """Map entry messages by full name: they hold a map's key and value types."""
    return {f".{name}.{nested.name}": nested
            for name, (_, message) in messages.items()
            for nested in message.nested_type if nested.options.map_entry}


class Comparison:
    """Collects what `new` no longer has or has differently."""

    def __init__(self):
        self.findings = []

    def compare(self, old_set, new_set):
        new_files = {file.name: file for file in new_set.file}
        for old in old_set.file:
            new = new_files.get(old.name)
            if new is None:
                self._find(old.name, "the file is gone")
            elif new.package != old.package:
                self._find(old.name, f"the package was {old.package}, is {new.package}")
        old_messages, new_messages = (self._index(s, descriptors.messages)
                                      for s in (old_set, new_set))
        old_maps, new_maps = map_entries(old_messages), map_entries(new_messages)
        self._each(old_messages, new_messages, "message",
                   lambda name, old, new: self._message(name, old, new, old_maps, new_maps))
        self._each(self._index(old_set, descriptors.enums),
                   self._index(new_set, descriptors.enums), "enum", self._enum)
        self._each(self._index(old_set, descriptors.services),
                   self._index(new_set, descriptors.services), "service", self._service)
        return self.findings

    @staticmethod
    def _index(descriptor_set, walk):
        return {name: (file.name, item)
                for file in descriptor_set.file for name, item, _ in walk(file)}

    def _find(self, what, words):
        self.findings.append(f"{what}: {words}")

    def _each(self, old_items, new_items, kind, compare):
        for name, (file, old) in old_items.items():
            if name not in new_items:
                self._find(name, f"the {kind} is gone")
            elif new_items[name][0] != file:
                # Code of most languages includes or imports by file.
                self._find(name, f"the {kind} moved from {file} to {new_items[name][0]}")
            else:
                compare(name, old, new_items[name][1])

    def _message(self, name, old, new, old_maps, new_maps):
        by_number = {field.number: field for field in new.field}
        by_name = {field.name: field for field in new.field}
        for before in old.field:
            what = f"{name}.{before.name}"
            after = by_number.get(before.number)
            if after is None or after.name != before.name:
                self._gone(what, before, by_name.get(before.name), after)
                continue
            types = [type_words(before), type_words(after)]
            if before.type_name in old_maps and after.type_name in new_maps:
                types = ["map of " + " to ".join(map(type_words, maps[field.type_name].field))
                         for maps, field in ((old_maps, before), (new_maps, after))]
            if (before.type, types[0]) != (after.type, types[1]):
                self._find(what, f"the type was {types[0]}, is {types[1]}")
            presence = presence_words(old, before), presence_words(new, after)
            if presence[0] != presence[1]:
                self._find(what, f"it was {presence[0]}, is {presence[1]}")
            if before.json_name != after.json_name:
                self._find(what, f"the JSON name was {before.json_name}, is {after.json_name}")

    def _gone(self, what, before, same_name, same_number):
        if same_name is not None:
            self._find(what, f"the number was {before.number}, is {same_name.number}")
        elif same_number is not None:
            self._find(what, f"number {before.number} is now called {same_number.name}")
        else:
            self._find(what, f"the field is gone (reserve {before.number} and its name)")

    def _enum(self, name, old, new):
        numbers = {value.name: value.number for value in new.value}
        for value in old.value:
            if value.name not in numbers:
                self._find(f"{name}.{value.name}", "the enum value is gone")
            elif numbers[value.name] != value.number:
                self._find(f"{name}.{value.name}",
                           f"the number was {value.number}, is {numbers[value.name]}")

    def _service(self, name, old, new):
        methods = {method.name: method for method in new.method}
        for before in old.method:
            after = methods.get(before.name)
            what = f"{name}.{before.name}"
            if after is None:
                self._find(what, "the rpc is gone")
                continue
            for attribute, words in (("input_type", "request type"),
                                     ("output_type", "response type"),
                                     ("client_streaming", "stream of requests"),
                                     ("server_streaming", "stream of responses")):
                was, now = getattr(before, attribute), getattr(after, attribute)
                if was != now:
                    self._find(what, f"the {words} was {was}, is {now}")


def without_comments(descriptor_set):
    for file in descriptor_set.file:
        file.ClearField("source_code_info")
    return descriptor_set


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=descriptors.ROOT, help="folder of the schemas")
    parser.add_argument("--baseline", default=BASELINE, type=pathlib.Path,
                        help="FileDescriptorSet in text form")
    parser.add_argument("--update", action="store_true",
                        help="make the schemas as they are now the baseline")
    arguments = parser.parse_args()
    try:
        now = without_comments(descriptors.compile_folder(arguments.root))
    except descriptors.CompileError as error:
        print(error)
        return 1
    if arguments.update:
        arguments.baseline.write_text(text_format.MessageToString(now))
        print(f"schemas: recorded in {arguments.baseline}")
        return 0
    baseline = text_format.Parse(arguments.baseline.read_text(),
                                 descriptor_pb2.FileDescriptorSet())
    findings = Comparison().compare(baseline, now)
    print("\n".join(findings) if findings else "schemas: understand the baseline")
    if findings:
        print("If this is meant: see tests/proto/breaking.py --help")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
