/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Small text helpers for the initramfs' init: what std::string_view offers
 * without the parts that throw.
 */
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>

using Text = std::string_view;

inline bool starts_with(Text text, Text prefix)
{
	return text.size() >= prefix.size() && memcmp(text.data(), prefix.data(), prefix.size()) == 0;
}

/* The text after @prefix, which it must have. */
inline Text after(Text text, Text prefix)
{
	text.remove_prefix(prefix.size());
	return text;
}

/* Cuts the text up to @separator off the front of @rest and returns it. */
inline Text next_field(Text &rest, char separator)
{
	const void *found = rest.empty() ? nullptr : memchr(rest.data(), separator, rest.size());
	Text field = rest;

	if (found == nullptr) {
		rest = Text();
		return field;
	}
	size_t length = static_cast<const char *>(found) - rest.data();
	field = Text(rest.data(), length);
	rest.remove_prefix(length + 1);
	return field;
}

/* True, and the value, if all of @text is a number in @base. */
inline bool parse_number(Text text, int base, uint64_t &value)
{
	char digits[32];
	char *end;

	if (text.empty() || text.size() >= sizeof(digits))
		return false;
	memcpy(digits, text.data(), text.size());
	digits[text.size()] = '\0';
	value = strtoull(digits, &end, base);
	return *end == '\0' && digits[0] != '-' && digits[0] != '+';
}

/* A text that owns its bytes, cut off when it gets too long. */
template <size_t capacity> class Buffer {
public:
	Buffer() = default;
	explicit Buffer(Text text) { append(text); }

	Buffer &append(Text text)
	{
		size_t room = capacity - 1 - length_;

		if (text.size() > room) {
			text = Text(text.data(), room);
			truncated_ = true;
		}
		memcpy(bytes_ + length_, text.data(), text.size());
		length_ += text.size();
		bytes_[length_] = '\0';
		return *this;
	}

	const char *c_str() const { return bytes_; }
	Text text() const { return Text(bytes_, length_); }
	bool empty() const { return length_ == 0; }
	bool truncated() const { return truncated_; }

private:
	char bytes_[capacity] = {};
	size_t length_ = 0;
	bool truncated_ = false;
};

using Path = Buffer<256>;

/*
 * Reads the start of a file. Returns the number of bytes, 0 when there are
 * none or the file cannot be read; what was read ends with a NUL.
 */
size_t read_file(const char *path, char *buffer, size_t capacity);

/* Writes a short text into an existing file, as /proc and /sys take them. */
bool write_file(const char *path, Text text);

/* A line on the console with our name before it. */
[[gnu::format(printf, 1, 2)]] void say(const char *format, ...);
