#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "inference_core/grammar/expression.h"

namespace yangtuo {

// A context-free grammar in llama.cpp's notation, whose rule `root` the whole text matches:
//
//   root  ::= "[" item ("," item)* "]"   # a comment
//   item  ::= [0-9]+ | "\"" [^"\n]{0,20} "\""
//
// Literals and classes take characters, in UTF-8, and \n \r \t \\ \" \[ \] \- \xHH \uHHHH
// \UHHHHHHHH; '.' is any character; '*' '+' '?' {m} {m,} {m,n} repeat (at most 10,000 times). A
// rule's body goes on over line ends after '::=' and '|' and inside parentheses, and ends at any
// other. Rules may call each other in any order and recursively, nested up to 256 deep where they
// do not end with the call.
//
// INVALID_ARGUMENT with the line for what is malformed, for rules that are undefined or defined
// twice and when there is no root; left recursion is found by BuildAutomaton.
absl::StatusOr<ExpressionId> ParseGbnf(std::string_view text, Expressions& expressions);

}  // namespace yangtuo
