// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <memory>

#include "input.hh"

namespace ubd::crash
{
namespace
{

struct Closer {
	void operator()(FILE *f) const { fclose(f); }
};
using Stream = std::unique_ptr<FILE, Closer>;

Stream open_or_refuse(const char *path)
{
	Stream f(fopen(path, "re"));
	if (!f)
		refuse("%s: %s", path, strerror(errno));
	return f;
}

Act::Kind kind_of(const char *word)
{
	static constexpr const char *names[] = { "write", "fua", "zeroes", "discard", "flush" };
	for (u8 i = 0; i < 5; i++)
		if (!strcmp(word, names[i]))
			return static_cast<Act::Kind>(i);
	refuse("the journal has an operation '%s'", word);
}

} // namespace

void refuse(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("replay: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	exit(2);
}

std::vector<u8> read_file(const char *path)
{
	Stream f = open_or_refuse(path);
	std::vector<u8> bytes;
	u8 part[65536];
	while (size_t n = fread(part, 1, sizeof(part), f.get()))
		bytes.insert(bytes.end(), part, part + n);
	if (ferror(f.get()))
		refuse("%s: cannot be read", path);
	return bytes;
}

// Adds what an entry says; false if it does not fit to those before.
bool Record::add(const RecordEntry &entry, const u8 *data)
{
	const u32 now = static_cast<u32>(events.size()) + 1;
	u32 index = static_cast<u32>(calls.size());
	if (entry.kind == RecordEntry::handed) {
		if (!under_way_.emplace(entry.number, index).second || (data && entry.data != entry.length))
			return false;
		calls.push_back({ entry.op, entry.file, index + 1, entry.offset, entry.length, data, now, never, 0 });
	} else if (entry.kind == RecordEntry::completed) {
		const auto found = under_way_.find(entry.number);
		if (found == under_way_.end() || calls[found->second].op != entry.op)
			return false;
		index = found->second;
		calls[index].completed = now;
		calls[index].result = entry.result;
		under_way_.erase(found);
	} else if (entry.kind != RecordEntry::mark) {
		return false;
	}
	events.push_back({ entry.kind, index, entry.number });
	return true;
}

Record::Record(const char *path) : bytes(read_file(path))
{
	RecordHead head{};
	if (bytes.size() >= sizeof(head))
		memcpy(&head, bytes.data(), sizeof(head));
	if (head.magic != RecordHead::magic_number)
		refuse("%s: is no record", path);
	if (head.full)
		refuse("%s: not all fitted into its memory: it is of no use", path);
	if (head.bytes != bytes.size())
		refuse("%s: has %zu bytes, not %llu", path, bytes.size(), head.bytes);
	for (u64 at = sizeof(head); at < bytes.size();) {
		RecordEntry entry;
		if (bytes.size() - at < sizeof(entry))
			refuse("%s: its last entry is cut short", path);
		memcpy(&entry, &bytes[at], sizeof(entry));
		if (entry.bytes() > bytes.size() - at || !add(entry, entry.data ? &bytes[at] + sizeof(entry) : nullptr))
			refuse("%s: the entry at byte %llu makes no sense", path, at);
		at += entry.bytes();
	}
	if (events.size() != head.entries)
		refuse("%s: has %zu entries, not %llu", path, events.size(), head.entries);
}

// "threads N", then "KIND RECORD FIRST COUNT BEGIN END OK DURABLE" for each.
Journal::Journal(const char *path)
{
	Stream f = open_or_refuse(path);
	if (fscanf(f.get(), "threads %u", &threads) != 1 || !threads)
		refuse("%s: is no journal", path);
	char word[16];
	Act a{};
	int ok, durable;
	while (fscanf(f.get(), "%15s %llu %llu %llu %u %u %d %d", word, &a.number, &a.first, &a.count, &a.begin, &a.end,
		      &ok, &durable) == 8) {
		a.kind = kind_of(word);
		a.ok = ok;
		a.durable = durable;
		acts.push_back(a);
	}
	if (!feof(f.get()))
		refuse("%s: a line makes no sense, after %zu that do", path, acts.size());
}

} // namespace ubd::crash
