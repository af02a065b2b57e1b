// What culvert-fetch gives up before it hears the first request.
#pragma once

#include "runtime/privileges.hpp"

namespace culvert::ike::fetch {

/// Another user than the key daemon's, no capability, no file, no core, no exec of more rights, few
/// system calls, bounded memory. The error is a sentence.
[[nodiscard]] runtime::Done confine();

}  // namespace culvert::ike::fetch
