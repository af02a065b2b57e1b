// A second worker of a gateway, on the same thread: the two take turns until neither was handed
// anything.
#pragma once

#include <array>
#include <memory>
#include <string>

#include <catch2/catch.hpp>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "crypto/esp/esp_crypto.hpp"
#include "dataplane/worker/sizes.hpp"
#include "dataplane/worker/stages.hpp"
#include "dataplane/worker/worker.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"

namespace culvert::test {

class SecondWorker {
 public:
  /// Of a gateway that is made for two, and is their first.
  explicit SecondWorker(Gateway& gateway) : gateway_(gateway) {
    using namespace dataplane;
    WorkerContext& first = gateway.context();
    context_.id = WorkerId{1};
    context_.tables = first.tables;
    context_.engine = crypto::esp::make_engine();
    context_.pool = first.pool;
    context_.large_pool = first.large_pool;
    context_.punt = first.punt;
    context_.inject = make_ring("second_inject");
    context_.handoff = make_ring("second_handoff");
    context_.peer_moved = first.peer_moved;
    peers_ = {&first, &context_};
    context_.peers = first.peers = peers_.data();
    state_ = std::make_unique<WorkerState>(context_);
    burst_ = std::make_unique<Burst>();
    gateway.goes_on = [this] { return next_turn(); };
    gateway.waits_elsewhere = [this] { return state_->reassembler.held() + state_->early.count(); };
  }
  ~SecondWorker() {
    drop_pending(*state_);
    drop_early(*state_);
    state_->free_given_back();
    rte_ring_free(context_.inject);
    rte_ring_free(context_.handoff);
  }
  SecondWorker(const SecondWorker&) = delete;
  SecondWorker& operator=(const SecondWorker&) = delete;

  dataplane::WorkerState& state() { return *state_; }
  /// An iteration of whose turn it is. `first`, `burst`: the gateway's own.
  void iterate(dataplane::WorkerState& first, dataplane::Burst& burst) {
    if (turns_ == 0) turn_ = gateway_.receiver;
    ++turns_;
    if (turn_ == 0) {
      run_iteration(first, burst);
    } else {
      take_whole_bursts(*state_);
      run_iteration(*state_, *burst_);
    }
  }

 private:
  static rte_ring* make_ring(const std::string& kind) {
    static int count = 0;
    rte_ring* const ring = rte_ring_create((kind + std::to_string(count++)).c_str(), 1024, 0, 0);
    REQUIRE(ring != nullptr);
    return ring;
  }
  /// Each has one at least.
  bool next_turn() {
    turn_ = 1 - turn_;
    const bool is_handed =
        rte_ring_empty(context_.handoff) == 0 || rte_ring_empty(gateway_.handoff()) == 0;
    if (turns_ == 1 || is_handed) return true;
    turns_ = 0;
    return false;
  }

  Gateway& gateway_;
  dataplane::WorkerContext context_;
  std::array<dataplane::WorkerContext*, 2> peers_{};
  std::unique_ptr<dataplane::WorkerState> state_;
  std::unique_ptr<dataplane::Burst> burst_;
  unsigned turn_ = 0, turns_ = 0;
};

}  // namespace culvert::test
