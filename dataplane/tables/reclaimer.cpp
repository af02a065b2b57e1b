#include "dataplane/tables/reclaimer.hpp"

#include <new>
#include <utility>

#include <rte_errno.h>
#include <rte_malloc.h>
#include <rte_rcu_qsbr.h>

namespace culvert::dataplane {

Reclaimer::Reclaimer(std::uint32_t workers) : qsbr_(nullptr, nullptr) {
  const std::size_t size = rte_rcu_qsbr_get_memsize(workers);
  auto* qsbr = static_cast<rte_rcu_qsbr*>(::operator new(size, std::align_val_t{128}));
  rte_rcu_qsbr_init(qsbr, workers);
  for (std::uint32_t worker = 0; worker < workers; ++worker) {
    rte_rcu_qsbr_thread_register(qsbr, worker);
  }
  qsbr_ = {qsbr, [](rte_rcu_qsbr* memory) { ::operator delete(memory, std::align_val_t{128}); }};
}

Reclaimer::~Reclaimer() {
  for (Waiting& waiting : waiting_) waiting.free();
}

void Reclaimer::online(WorkerId worker) {
  rte_rcu_qsbr_thread_online(qsbr_.get(), static_cast<unsigned>(worker));
}

void Reclaimer::quiescent(WorkerId worker) {
  rte_rcu_qsbr_quiescent(qsbr_.get(), static_cast<unsigned>(worker));
}

void Reclaimer::offline(WorkerId worker) {
  rte_rcu_qsbr_thread_offline(qsbr_.get(), static_cast<unsigned>(worker));
}

void Reclaimer::retire(std::function<void()> free) {
  waiting_.push_back({rte_rcu_qsbr_start(qsbr_.get()), std::move(free)});
}

void Reclaimer::poll() {
  while (!waiting_.empty() && rte_rcu_qsbr_check(qsbr_.get(), waiting_.front().token, false) == 1) {
    const auto free = std::move(waiting_.front().free);
    waiting_.pop_front();
    free();
  }
}

void Reclaimer::wait() { rte_rcu_qsbr_check(qsbr_.get(), rte_rcu_qsbr_start(qsbr_.get()), true); }

void Reclaimer::drain() {
  while (!waiting_.empty()) {
    rte_rcu_qsbr_check(qsbr_.get(), waiting_.front().token, true);
    poll();
  }
}

}  // namespace culvert::dataplane
