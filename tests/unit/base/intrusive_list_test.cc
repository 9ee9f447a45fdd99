#include "base/intrusive_list.h"

#include <gtest/gtest.h>

#include <list>
#include <memory>
#include <vector>

#include "base/random.h"

namespace postern {
namespace {

struct ReadyTag;
struct QueueTag;
struct Item : ListNode<ReadyTag>, ListNode<QueueTag> {
  explicit Item(int v) : value(v) {}
  int value;
};
using Ready = IntrusiveList<Item, ReadyTag>;
using Queue = IntrusiveList<Item, QueueTag>;

template <class List>
std::vector<int> values(List& list) {
  std::vector<int> out;
  for (Item& item : list) out.push_back(item.value);
  return out;
}

TEST(IntrusiveList, KeepsOrder) {
  Ready list;
  Item a(1);
  Item b(2);
  Item c(3);
  EXPECT_EQ(list.pop_front(), nullptr);
  list.push_back(b);
  list.push_back(c);
  list.push_front(a);
  EXPECT_EQ(values(list), (std::vector{1, 2, 3}));
  EXPECT_EQ(list.back(), &c);
  EXPECT_EQ(list.pop_front(), &a);
  Ready::erase(c);
  EXPECT_EQ(values(list), (std::vector{2}));
}

TEST(IntrusiveList, OneItemOnTwoLists) {
  Ready ready;
  Queue queue;
  Item a(1);
  ready.push_back(a);
  queue.push_back(a);
  Ready::erase(a);
  EXPECT_FALSE(static_cast<ListNode<ReadyTag>&>(a).is_linked());
  EXPECT_TRUE(static_cast<ListNode<QueueTag>&>(a).is_linked());
  EXPECT_TRUE(ready.empty());
  EXPECT_FALSE(queue.empty());
}

TEST(IntrusiveList, DestroyedItemLeaves) {
  Ready list;
  Item a(1);
  list.push_back(a);
  {
    Item b(2);
    list.push_back(b);
  }
  EXPECT_EQ(values(list), (std::vector{1}));
}

TEST(IntrusiveList, ItemsOutliveTheList) {
  Item a(1);
  {
    Ready list;
    list.push_back(a);
  }
  EXPECT_FALSE(static_cast<ListNode<ReadyTag>&>(a).is_linked());
}

TEST(IntrusiveList, Splices) {
  Ready x;
  Ready y;
  Item a(1);
  Item b(2);
  Item c(3);
  x.push_back(a);
  x.splice_back(y);
  EXPECT_EQ(values(x), (std::vector{1}));
  y.push_back(b);
  y.push_back(c);
  x.splice_back(y);
  EXPECT_EQ(values(x), (std::vector{1, 2, 3}));
  EXPECT_TRUE(y.empty());
  y.push_back(x.pop_front() == &a ? a : c);
  EXPECT_EQ(values(y), (std::vector{1}));
}

TEST(IntrusiveList, MatchesModelUnderRandomOperations) {
  std::vector<std::unique_ptr<Item>> items;
  for (int i = 0; i < 50; ++i) items.push_back(std::make_unique<Item>(i));
  Ready list;
  std::list<int> model;
  Random random(1);
  for (int step = 0; step < 20000; ++step) {
    Item& item = *items[random.below(items.size())];
    if (static_cast<ListNode<ReadyTag>&>(item).is_linked()) {
      Ready::erase(item);
      model.remove(item.value);
    } else if (random.chance(0.5)) {
      list.push_back(item);
      model.push_back(item.value);
    } else {
      list.push_front(item);
      model.push_front(item.value);
    }
    if (step % 50 == 0) {
      ASSERT_EQ(values(list), std::vector<int>(model.begin(), model.end()));
    }
  }
}

}  // namespace
}  // namespace postern
