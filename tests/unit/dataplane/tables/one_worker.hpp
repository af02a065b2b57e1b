// The only worker of a test of tables.
#pragma once

#include "dataplane/tables/ids.hpp"

namespace culvert::test {

inline constexpr dataplane::WorkerId kWorker{0};

}  // namespace culvert::test
