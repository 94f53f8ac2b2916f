#!/usr/bin/python3
"""The schemas pass lint.py and breaking.py, and both find faults that are planted in them."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

import breaking
import descriptors
import lint

HERE = pathlib.Path(__file__).resolve().parent

CLEAN = """
syntax = "proto3";
package shop.v1;
// Sells.
service ShopService {
  // Buys.
  rpc Buy(BuyRequest) returns (stream BuyResponse);
  // Looks.
  rpc Look(LookRequest) returns (LookResponse);
}
// What to buy.
message BuyRequest {
  // Name.
  string item_name = 1;
  // How many.
  optional uint32 count = 2;
  // Prices.
  map<string, uint32> prices = 3;
  oneof payment {
    // Cash.
    uint32 cash = 4;
    // Card.
    string card = 5;
  }
}
// Bought.
message BuyResponse {
  // How it went.
  Outcome outcome = 1;
}
// What to look at.
message LookRequest {}
// What there is.
message LookResponse {
  // Names.
  repeated string item_names = 1;
}
// How it went.
enum Outcome {
  OUTCOME_UNSPECIFIED = 0;
  OUTCOME_SOLD = 1;
}
"""


def compiled(text, name="shop/v1/shop.proto"):
    """The FileDescriptorSet of one file."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
        return descriptors.compile_folder(folder)


def changed(*replacements):
    """CLEAN with texts replaced; each must be there."""
    text = CLEAN
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new)
    return text


class LintTest(unittest.TestCase):
    def findings(self, *replacements, name="shop/v1/shop.proto"):
        return lint.Linter().lint(compiled(changed(*replacements), name))

    def assert_found(self, rule, *replacements, name="shop/v1/shop.proto"):
        found = self.findings(*replacements, name=name)
        self.assertTrue(any(f": {rule}: " in one for one in found), f"{rule} not in {found}")

    def test_accepts_a_clean_schema(self):
        self.assertEqual(self.findings(), [])

    def test_names_file_and_line(self):
        found = self.findings(("  // Name.\n", ""))
        self.assertEqual(
            found, ["shop/v1/shop.proto:13: COMMENT: field shop.v1.BuyRequest.item_name has no "
                    "comment"])

    def test_wants_a_comment_on_everything(self):
        for comment in ("// Sells.\n", "  // Buys.\n", "// What to buy.\n", "    // Cash.\n",
                        "  // Prices.\n", "// What to look at.\n"):
            self.assert_found("COMMENT", (comment, ""))

    def test_accepts_a_trailing_comment(self):
        self.assertEqual(self.findings(("  // Name.\n  string item_name = 1;",
                                        "  string item_name = 1;  // Name.")), [])

    def test_wants_the_package_to_be_the_folder_and_end_in_a_version(self):
        self.assert_found("PACKAGE_DIRECTORY_MATCH", name="shop/v2/shop.proto")
        self.assert_found("PACKAGE_VERSION_SUFFIX", ("package shop.v1", "package shop"))
        self.assert_found("PACKAGE_LOWER_SNAKE_CASE", ("package shop.v1", "package Shop.v1"))
        self.assert_found("PACKAGE_DEFINED", ("package shop.v1;", ""))
        self.assert_found("FILE_LOWER_SNAKE_CASE", name="shop/v1/Shop.proto")

    def test_accepts_alpha_and_beta_versions(self):
        self.assertEqual(self.findings(("shop.v1;", "shop.v1beta2;"),
                                       name="shop/v1beta2/s.proto"), [])

    def test_checks_case(self):
        self.assert_found("FIELD_LOWER_SNAKE_CASE", ("item_name =", "itemName ="))
        self.assert_found("ONEOF_LOWER_SNAKE_CASE", ("oneof payment", "oneof Payment"))
        self.assert_found("MESSAGE_PASCAL_CASE", ("BuyRequest", "buyRequest"))
        self.assert_found("ENUM_PASCAL_CASE", ("Outcome outcome", "outcome_t outcome"),
                          ("enum Outcome", "enum outcome_t"))
        self.assert_found("RPC_PASCAL_CASE", ("rpc Buy", "rpc buy"))
        self.assert_found("ENUM_VALUE_UPPER_SNAKE_CASE", ("OUTCOME_SOLD", "OUTCOME_sold"))

    def test_checks_enum_values(self):
        self.assert_found("ENUM_ZERO_VALUE_SUFFIX", ("OUTCOME_UNSPECIFIED", "OUTCOME_NONE"))
        self.assert_found("ENUM_VALUE_PREFIX", ("OUTCOME_SOLD", "SOLD"))

    def test_checks_names_and_uniqueness_of_requests_and_responses(self):
        self.assert_found("SERVICE_SUFFIX", ("service ShopService", "service Shop"))
        self.assert_found("RPC_REQUEST_STANDARD_NAME", ("BuyRequest", "Purchase"))
        self.assert_found("RPC_RESPONSE_STANDARD_NAME", ("BuyResponse", "Receipt"))
        self.assert_found("RPC_REQUEST_RESPONSE_UNIQUE", ("(LookRequest)", "(BuyRequest)"))

    def test_exempts_schemas_of_others(self):
        text = "syntax = \"proto3\"; package google.rpc; message Status { int32 code = 1; }"
        self.assertEqual(lint.Linter().lint(compiled(text, "google/rpc/status.proto")), [])

    def test_reports_what_protoc_refuses_or_warns_about(self):
        with self.assertRaises(descriptors.CompileError):
            compiled("nonsense")
        with self.assertRaisesRegex(descriptors.CompileError, "unused"):
            compiled(CLEAN.replace("package", "import \"google/protobuf/any.proto\";\npackage"))


class BreakingTest(unittest.TestCase):
    def findings(self, *replacements):
        return breaking.Comparison().compare(compiled(CLEAN), compiled(changed(*replacements)))

    def assert_found(self, finding, *replacements):
        self.assertEqual(self.findings(*replacements), [finding])

    def test_accepts_the_same_schema_and_other_comments(self):
        self.assertEqual(self.findings(), [])
        self.assertEqual(self.findings(("// Sells.", "// Something else.")), [])

    def test_accepts_additions(self):
        rpc = "  rpc New(NewRequest) returns (NewResponse);\n"
        types = "message NewRequest {}\nmessage NewResponse {}\n"
        self.assertEqual(
            self.findings(("  OUTCOME_SOLD = 1;", "  OUTCOME_SOLD = 1;\n  OUTCOME_OUT = 2;"),
                          ("message LookRequest {}", "message LookRequest { string a = 1; }"),
                          ("  // Looks.", rpc + "  // Looks."),
                          ("// What to buy.", types + "// What to buy.")), [])

    def test_finds_a_removed_field(self):
        self.assert_found("shop.v1.BuyRequest.item_name: the field is gone (reserve 1 and its "
                          "name)", ("  string item_name = 1;\n", ""))

    def test_finds_a_renumbered_field(self):
        self.assert_found("shop.v1.BuyRequest.item_name: the number was 1, is 9",
                          ("item_name = 1", "item_name = 9"))

    def test_finds_a_renamed_field(self):
        self.assert_found("shop.v1.BuyRequest.item_name: number 1 is now called title",
                          ("item_name = 1", "title = 1"))

    def test_finds_a_retyped_field(self):
        self.assert_found("shop.v1.BuyRequest.item_name: the type was string, is bytes",
                          ("string item_name =", "bytes item_name ="))
        self.assert_found("shop.v1.BuyResponse.outcome: the type was shop.v1.Outcome, is int32",
                          ("Outcome outcome", "int32 outcome"))
        self.assert_found(
            "shop.v1.BuyRequest.prices: the type was map of string to uint32, is map of string to "
            "uint64", ("map<string, uint32>", "map<string, uint64>"))

    def test_finds_changed_presence(self):
        self.assert_found("shop.v1.BuyRequest.count: it was optional, is singular",
                          ("optional uint32 count", "uint32 count"))
        self.assert_found("shop.v1.LookResponse.item_names: it was repeated, is singular",
                          ("repeated string item_names", "string item_names"))
        self.assert_found("shop.v1.BuyRequest.card: it was in oneof payment, is singular",
                          ("    string card = 5;\n  }", "  }\n  string card = 5;"))

    def test_finds_a_changed_json_name(self):
        self.assert_found("shop.v1.BuyRequest.item_name: the JSON name was itemName, is x",
                          ("item_name = 1;", "item_name = 1 [json_name = \"x\"];"))

    def test_finds_removed_and_renumbered_enum_values(self):
        self.assert_found("shop.v1.Outcome.OUTCOME_SOLD: the enum value is gone",
                          ("  OUTCOME_SOLD = 1;\n", ""))
        self.assert_found("shop.v1.Outcome.OUTCOME_SOLD: the number was 1, is 2",
                          ("OUTCOME_SOLD = 1", "OUTCOME_SOLD = 2"))

    def test_finds_a_removed_rpc(self):
        self.assert_found("shop.v1.ShopService.Look: the rpc is gone",
                          ("  rpc Look(LookRequest) returns (LookResponse);\n", ""))

    def test_finds_changed_types_and_streams_of_an_rpc(self):
        self.assert_found("shop.v1.ShopService.Look: the request type was .shop.v1.LookRequest, is "
                          ".shop.v1.BuyRequest", ("Look(LookRequest)", "Look(BuyRequest)"))
        self.assert_found("shop.v1.ShopService.Buy: the stream of responses was True, is False",
                          ("stream BuyResponse", "BuyResponse"))

    def test_finds_removed_messages_services_files_and_a_changed_package(self):
        old = compiled(CLEAN)
        no_enum = compiled(changed(("Outcome outcome", "int32 outcome"),
                                   ("enum Outcome {\n  OUTCOME_UNSPECIFIED = 0;\n"
                                    "  OUTCOME_SOLD = 1;\n}\n", "")))
        self.assertIn("shop.v1.Outcome: the enum is gone",
                      breaking.Comparison().compare(old, no_enum))
        other = compiled(changed(("shop.v1", "shop.v2")))
        found = breaking.Comparison().compare(old, other)
        self.assertIn("shop/v1/shop.proto: the package was shop.v1, is shop.v2", found)
        self.assertIn("shop.v1.BuyRequest: the message is gone", found)
        self.assertIn("shop.v1.ShopService: the service is gone", found)
        moved = compiled(CLEAN, "shop/v1/other.proto")
        found = breaking.Comparison().compare(old, moved)
        self.assertIn("shop/v1/shop.proto: the file is gone", found)
        self.assertIn("shop.v1.BuyRequest: the message moved from shop/v1/shop.proto to "
                      "shop/v1/other.proto", found)


class CommandTest(unittest.TestCase):
    """The commands as they are run, on the schemas of this repository and on broken copies."""

    def run_command(self, script, *arguments):
        return subprocess.run([sys.executable, HERE / script, *arguments], capture_output=True,
                              text=True, check=False)

    def broken_copy(self, folder):
        for path in descriptors.ROOT.rglob("*.proto"):
            copy = pathlib.Path(folder) / path.relative_to(descriptors.ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(path.read_text().replace("  uint32 pipeline_rank = 10;\n", "")
                            .replace("FRAME_KIND_UNSPECIFIED", "FRAME_KIND_NONE"))

    def test_the_schemas_follow_the_rules(self):
        run = self.run_command("lint.py")
        self.assertEqual(run.returncode, 0, run.stdout)

    def test_the_schemas_understand_the_baseline(self):
        run = self.run_command("breaking.py")
        self.assertEqual(run.returncode, 0, run.stdout)

    def test_both_fail_on_planted_faults(self):
        with tempfile.TemporaryDirectory() as folder:
            self.broken_copy(folder)
            style = self.run_command("lint.py", "--root", folder)
            change = self.run_command("breaking.py", "--root", folder)
        self.assertEqual(style.returncode, 1)
        self.assertIn("expected FRAME_KIND_UNSPECIFIED = 0, found FRAME_KIND_NONE", style.stdout)
        self.assertEqual(change.returncode, 1)
        self.assertIn("yangtuo.internal.v1.Hello.pipeline_rank: the field is gone", change.stdout)
        self.assertIn("--help", change.stdout)

    def test_update_records_a_change(self):
        with tempfile.TemporaryDirectory() as folder:
            self.broken_copy(pathlib.Path(folder) / "proto")
            arguments = ("--root", f"{folder}/proto", "--baseline", f"{folder}/baseline.txtpb")
            self.assertEqual(self.run_command("breaking.py", *arguments, "--update").returncode, 0)
            self.assertEqual(self.run_command("breaking.py", *arguments).returncode, 0)
        self.assertIn("--update", self.run_command("breaking.py", "--help").stdout)


if __name__ == "__main__":
    unittest.main()
