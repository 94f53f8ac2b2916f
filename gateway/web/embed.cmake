# Writes OUTPUT: C++ that holds the files of the page. Run as
#   cmake -DOUTPUT=... -DFOLDER=... -P embed.cmake
set(code "#include \"gateway/web/web_page.h\"\n\nnamespace yangtuo::gateway {\nnamespace {\n\n")
set(lookup "")
foreach(entry "/|index.html|text/html" "/chat.css|chat.css|text/css" "/chat.js|chat.js|text/javascript"
        "/markdown.js|markdown.js|text/javascript" "/store.js|store.js|text/javascript")
  string(REPLACE "|" ";" parts "${entry}")
  list(GET parts 0 path)
  list(GET parts 1 file)
  list(GET parts 2 type)
  string(MAKE_C_IDENTIFIER "${file}" name)
  file(READ "${FOLDER}/${file}" hex HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
  string(APPEND code "constexpr unsigned char ${name}[] = {${bytes}};\n")
  string(APPEND lookup "  if (path == \"${path}\") {\n    return WebFile{\"${type}; charset=utf-8\",\n"
         "        {reinterpret_cast<const char*>(${name}), sizeof(${name})}};\n  }\n")
endforeach()
string(APPEND code "\n}  // namespace\n\nstd::optional<WebFile> FindWebFile(std::string_view path) {\n"
       "${lookup}  return std::nullopt;\n}\n\n}  // namespace yangtuo::gateway\n")
file(WRITE "${OUTPUT}" "${code}")
