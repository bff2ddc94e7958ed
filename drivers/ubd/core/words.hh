// SPDX-License-Identifier: GPL-2.0-only
/*
 * Words of a text that somebody wrote into one of our files in debugfs. The
 * text has a length, and no NUL.
 *
 * Context: any.
 */
#ifndef UBD_CORE_WORDS_HH
#define UBD_CORE_WORDS_HH

#include "base.hh"

namespace ubd
{

// A part of the text.
struct Span {
	const char *at;
	size_t left;

	// Takes the next rule off the front; false at the end.
	bool next_rule(Span &rule)
	{
		rule = Span{ at, 0 };
		while (left && *at != ';')
			at++, left--, rule.left++;
		if (!left)
			return rule.left;
		at++, left--;
		return true;
	}

	// The next word; false at the end.
	bool next_word(const char *&word, size_t &n)
	{
		while (left && blank())
			at++, left--;
		word = at;
		n = 0;
		while (left && !blank())
			at++, left--, n++;
		return n;
	}

	bool is_blank() const
	{
		Span copy = *this;
		const char *word;
		size_t n;
		return !copy.next_word(word, n);
	}

private:
	bool blank() const { return *at == ' ' || *at == '\t' || *at == '\n'; }
};

inline bool equal(const char *word, size_t n, const char *text)
{
	return n == __builtin_strlen(text) && __builtin_memcmp(word, text, n) == 0;
}

} // namespace ubd

#endif
