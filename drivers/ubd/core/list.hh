// SPDX-License-Identifier: GPL-2.0-only
/*
 * An intrusive first-in first-out list through a `next` member. No allocation,
 * no ownership; the caller's lock protects it.
 */
#ifndef UBD_CORE_LIST_HH
#define UBD_CORE_LIST_HH

namespace ubd
{

template <class T> class Fifo {
public:
	bool empty() const { return !head_; }
	T *front() const { return head_; }
	// Goes through all.
	unsigned count() const
	{
		unsigned n = 0;
		for (const T *t = head_; t; t = t->next)
			n++;
		return n;
	}

	void push(T &t)
	{
		t.next = nullptr;
		if (head_)
			tail_->next = &t;
		else
			head_ = &t;
		tail_ = &t;
	}

	// Before the first that it has to come before. Quick where it is none.
	template <class Order> void insert(T &t, Order comes_before)
	{
		if (!head_ || !comes_before(t, *tail_))
			return push(t);
		T **at = &head_;
		while (!comes_before(t, **at))
			at = &(*at)->next;
		t.next = *at;
		*at = &t;
	}

	T &pop()
	{
		T &t = *head_;
		head_ = t.next;
		t.next = nullptr;
		return t;
	}

	// The whole list, linked by next; the list is empty then.
	T *take()
	{
		T *all = head_;
		head_ = nullptr;
		return all;
	}

private:
	T *head_ = nullptr;
	T *tail_ = nullptr;
};

} // namespace ubd

#endif
