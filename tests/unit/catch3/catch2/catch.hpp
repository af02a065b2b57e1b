// Catch2 3 under the name and with the words of Catch2 2, which the tests are written in.
#pragma once

#include <string>

#include <catch2/catch_all.hpp>

namespace Catch {

using Matchers::StartsWith;
inline auto Contains(const std::string& part) { return Matchers::ContainsSubstring(part); }

}  // namespace Catch
