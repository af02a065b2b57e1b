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
  // What is freed may retire more.
  while (!waiting_.empty()) free_first();
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
  while (!waiting_.empty() && is_over(waiting_.front().token, false)) free_first();
}

void Reclaimer::free_first() {
  const auto free = std::move(waiting_.front().free);
  waiting_.pop_front();
  free();
}

bool Reclaimer::is_over(std::uint64_t token, bool waits) {
  if (rte_rcu_qsbr_check(qsbr_.get(), token, waits) != 1) return false;
  if (token <= acquired_) return true;
  acquired_ = std::max(token, qsbr_->acked_token);
  // A token that DPDK's tables have found to be over (`handle`) is so without a look at who
  // reported. They looked inside their library, where ThreadSanitizer does not see it: here is the
  // acquire that pairs with the release in `quiescent` and `offline`.
  for (std::uint32_t worker = 0; worker < qsbr_->max_threads; ++worker) {
    static_cast<void>(__atomic_load_n(&qsbr_->qsbr_cnt[worker].cnt, __ATOMIC_ACQUIRE));
  }
  return true;
}

void Reclaimer::wait() { static_cast<void>(is_over(rte_rcu_qsbr_start(qsbr_.get()), true)); }

void Reclaimer::drain() {
  while (!waiting_.empty()) {
    static_cast<void>(is_over(waiting_.front().token, true));
    free_first();
  }
}

}  // namespace culvert::dataplane
