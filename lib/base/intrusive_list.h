// Doubly linked lists whose links live in their elements: O(1) everywhere, no allocation.
//
//   struct ReadyTag;
//   struct Socket : ListNode<ReadyTag> { ... };
//   IntrusiveList<Socket, ReadyTag> ready;
#pragma once

#include <cassert>

namespace postern {

// Base class of an element, once for each list it can be on. Leaves its list when it is destroyed.
// Neither copied nor moved with its object's value: the links belong to the address.
template <class Tag = void>
class ListNode {
 public:
  ListNode() = default;
  ~ListNode() { unlink(); }
  ListNode(const ListNode&) = delete;
  ListNode& operator=(const ListNode&) = delete;

  [[nodiscard]] bool is_linked() const noexcept { return next_ != nullptr; }
  // Leaves the list it is on, if any.
  void unlink() noexcept {
    if (!is_linked()) return;
    prev_->next_ = next_;
    next_->prev_ = prev_;
    prev_ = next_ = nullptr;
  }

 private:
  template <class T, class U>
  friend class IntrusiveList;
  void insert_before(ListNode* position) noexcept {
    assert(!is_linked());
    prev_ = position->prev_;
    next_ = position;
    prev_->next_ = this;
    position->prev_ = this;
  }

  ListNode* prev_ = nullptr;
  ListNode* next_ = nullptr;
};

// Does not own its elements. Not thread-safe. Not movable: elements point at it.
template <class T, class Tag = void>
class IntrusiveList {
  using Node = ListNode<Tag>;

 public:
  class Iterator {
   public:
    explicit Iterator(Node* node) : node_(node) {}
    T& operator*() const { return static_cast<T&>(*node_); }
    T* operator->() const { return static_cast<T*>(node_); }
    Iterator& operator++() {
      node_ = node_->next_;
      return *this;
    }
    friend bool operator==(const Iterator&, const Iterator&) = default;

   private:
    Node* node_;
  };

  IntrusiveList() noexcept { head_.prev_ = head_.next_ = &head_; }
  ~IntrusiveList() {
    clear();
    head_.prev_ = head_.next_ = nullptr;
  }
  IntrusiveList(const IntrusiveList&) = delete;
  IntrusiveList& operator=(const IntrusiveList&) = delete;

  [[nodiscard]] bool empty() const noexcept { return head_.next_ == &head_; }
  void push_back(T& element) noexcept { node(element).insert_before(&head_); }
  void push_front(T& element) noexcept { node(element).insert_before(head_.next_); }
  [[nodiscard]] T* front() noexcept { return empty() ? nullptr : static_cast<T*>(head_.next_); }
  [[nodiscard]] T* back() noexcept { return empty() ? nullptr : static_cast<T*>(head_.prev_); }
  // Unlinks and returns the first element, nullptr if there is none.
  T* pop_front() noexcept {
    T* const element = front();
    if (element != nullptr) node(*element).unlink();
    return element;
  }
  // Unlinks an element of this list.
  static void erase(T& element) noexcept { node(element).unlink(); }
  // Appends all elements of the other list in O(1) and leaves it empty.
  void splice_back(IntrusiveList& other) noexcept {
    if (other.empty()) return;
    Node* const first = other.head_.next_;
    Node* const last = other.head_.prev_;
    other.head_.prev_ = other.head_.next_ = &other.head_;
    first->prev_ = head_.prev_;
    last->next_ = &head_;
    head_.prev_->next_ = first;
    head_.prev_ = last;
  }
  void clear() noexcept {
    while (pop_front() != nullptr) {
    }
  }

  // Iteration: the current element must not be unlinked during it; use pop_front to consume.
  [[nodiscard]] Iterator begin() noexcept { return Iterator(head_.next_); }
  [[nodiscard]] Iterator end() noexcept { return Iterator(&head_); }

 private:
  static Node& node(T& element) noexcept { return static_cast<Node&>(element); }
  Node head_;
};

}  // namespace postern
