#include "config/yaml_tree.hpp"

#include <algorithm>
#include <istream>
#include <optional>
#include <streambuf>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include "config/limits.hpp"
#include "config/plain_text.hpp"

namespace culvert::config {
namespace {

Location location_of(const YAML::Mark& mark) {
  return {static_cast<std::uint32_t>(mark.line + 1), static_cast<std::uint32_t>(mark.column + 1)};
}

/// Builds the tree from the parser's events. A refusal leaves through a throw, because the
/// library offers no other way to stop it.
class TreeBuilder : public YAML::EventHandler {
 public:
  [[nodiscard]] Node take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    place(mark, {Node::Kind::null, location_of(mark), "", false, {}, {}});
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw YamlError{location_of(mark), "an alias (*)", "a value", "write the value here again"};
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    place(mark, {Node::Kind::scalar, location_of(mark), value, tag == "!", {}, {}});
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Node::Kind::list);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Node::Kind::map);
  }
  void OnMapEnd() override { close(); }

 private:
  /// A map or list that is still open. `key_waits`: the last entry has its key, not its value.
  struct Open {
    Node node;
    bool key_waits = false;
  };

  static void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor == 0) return;
    throw YamlError{location_of(mark), "an anchor (&)", "a plain value",
                    "write the value at each place that needs it"};
  }
  static void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!") return;
    throw YamlError{location_of(mark), "a tag (!)", "a plain value", "leave the tag out"};
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
            Node::Kind kind) {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    if (!open_.empty() && open_.back().node.kind == Node::Kind::map && !open_.back().key_waits) {
      throw YamlError{location_of(mark), "a list or map as a key", "a word as a key",
                      "write \"key: value\""};
    }
    if (open_.size() >= limits::kDepth) {
      throw YamlError{location_of(mark), "a value nested too deep",
                      "at most " + std::to_string(limits::kDepth) + " levels",
                      "check the brackets and the indentation"};
    }
    count(mark);
    open_.push_back({Node{kind, location_of(mark), "", false, {}, {}}, false});
  }

  void close() {
    Node node = std::move(open_.back().node);
    open_.pop_back();
    attach(std::move(node));
  }

  void count(const YAML::Mark& mark) {
    if (++count_ <= limits::kNodes) return;
    throw YamlError{location_of(mark), "one value more",
                    "at most " + std::to_string(limits::kNodes) + " values in a file",
                    "split the gateway"};
  }

  void place(const YAML::Mark& mark, Node node) {
    count(mark);
    attach(std::move(node));
  }

  void attach(Node node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == Node::Kind::list) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.key_waits) {
      parent.node.entries.push_back({std::move(node.text), node.location, Node{}});
      parent.key_waits = true;
    } else {
      Node::Entry& entry = parent.node.entries.back();
      // The parser places an empty value at the next token, lines further down.
      if (node.kind == Node::Kind::null) node.location = entry.location;
      entry.value = std::move(node);
      parent.key_waits = false;
    }
  }

  Node root_;
  std::vector<Open> open_;
  std::size_t count_ = 0;
};

/// A stream over text that is not copied.
class ViewBuffer : public std::streambuf {
 public:
  explicit ViewBuffer(std::string_view text) {
    char* start = const_cast<char*>(text.data());  // NOLINT: a get area is never written to
    setg(start, start, start + text.size());
  }
};

/// "10.2.0.0/24[tcp/443]" without quotes inside a list in brackets is the one mistake that our own
/// notation invites: YAML takes its bracket for a list. Names it where it stands.
std::optional<YamlError> find_bare_selector(std::string_view line, std::uint32_t number) {
  constexpr std::string_view kAddress = "0123456789abcdefABCDEF:./-";
  for (std::size_t bracket = line.find('['); bracket != std::string_view::npos;
       bracket = line.find('[', bracket + 1)) {
    const std::size_t before =
        bracket == 0 ? bracket : line.find_last_not_of(kAddress, bracket - 1);
    const std::size_t start = before == std::string_view::npos ? 0 : before + 1;
    const std::size_t end = line.find(']', bracket);
    const bool quoted = start > 0 && (line[start - 1] == '"' || line[start - 1] == '\'');
    if (start + 3 > bracket || quoted || end == std::string_view::npos) continue;
    const std::string selector(line.substr(start, end + 1 - start));
    return YamlError{{number, static_cast<std::uint32_t>(start + 1)},
                     selector + " without quotes in a list",
                     "quotes around it, because YAML takes its bracket for a list",
                     "write \"" + selector + "\""};
  }
  return std::nullopt;
}

/// Words of ours that begin with a character that YAML keeps for itself: "*.example.org", "%any",
/// "@#cafe01". Named where they stand, as a value or in a list.
std::optional<YamlError> find_bare_word(std::string_view line, std::uint32_t number) {
  line = line.substr(0, line.find(" #"));  // a comment may say anything
  for (std::size_t at = line.find_first_of("*%@"); at != std::string_view::npos;
       at = line.find_first_of("*%@", at + 1)) {
    const std::size_t before =
        at == 0 ? std::string_view::npos : line.find_last_not_of(' ', at - 1);
    if (before == std::string_view::npos) continue;
    const bool begins_value = line[before] == '[' || line[before] == ',' || line[before] == '{' ||
                              (before + 1 < at && (line[before] == ':' || line[before] == '-'));
    if (!begins_value) continue;
    const std::string word(
        line.substr(at, std::min(line.find_first_of(" ,]}\r", at), line.size()) - at));
    if (word.size() < 2) continue;
    return YamlError{{number, static_cast<std::uint32_t>(at + 1)},
                     word + " without quotes",
                     std::string("quotes around it, because YAML keeps ") + word[0] +
                         " at the beginning of a word for itself",
                     "write \"" + word + "\""};
  }
  return std::nullopt;
}

YamlError syntax_error(const YAML::Exception& error, std::string_view text) {
  const Location location = error.mark.is_null() ? Location{1, 1} : location_of(error.mark);
  std::uint32_t number = 1;
  for (std::size_t start = 0; start < text.size() && number <= location.line; ++number) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    if (number + 1 >= location.line) {
      const std::string_view line = text.substr(start, end - start);
      auto bare = find_bare_selector(line, number);
      if (!bare) bare = find_bare_word(line, number);
      if (bare) return *std::move(bare);
    }
    start = end + 1;
  }
  return {location, "text that is not YAML (" + error.msg + ")", "valid YAML 1.2",
          "check quotes, brackets and the indentation here and one line above"};
}

}  // namespace

std::expected<Node, YamlError> parse_yaml(std::string_view text) {
  if (auto foreign = find_foreign_byte(text)) return std::unexpected(*std::move(foreign));
  ViewBuffer buffer(text);
  std::istream stream(&buffer);
  TreeBuilder builder;
  try {
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder))
      return Node{Node::Kind::null, {1, 1}, "", false, {}, {}};
    Node root = builder.take_root();
    TreeBuilder rest;
    if (parser.HandleNextDocument(rest)) {
      return std::unexpected(YamlError{rest.take_root().location, "a second document",
                                       "one document", "remove the line \"---\" above"});
    }
    return root;
  } catch (const YamlError& refused) {
    return std::unexpected(refused);
  } catch (const YAML::Exception& error) {
    return std::unexpected(syntax_error(error, text));
  } catch (const std::exception& error) {
    return std::unexpected(
        YamlError{{1, 1},
                  std::string("text that the YAML reader fails on (") + error.what() + ")",
                  "valid YAML 1.2",
                  "check the file"});
  }
}

}  // namespace culvert::config
