// SPDX-License-Identifier: GPL-2.0-only
/*
 * The columns, and how they are laid out. Documentation/man/ubd-top.1 explains
 * each.
 */
#include "table.hh"

#include <algorithm>
#include <cstdio>

namespace ubd::top
{
namespace
{

// What a column is computed from.
struct Interval {
	const Sample &before, &after;

	// Of counters, which only grow.
	u64 count(Figure f) const { return after[f] - before[f]; }
	u64 is(Figure f) const { return after[f]; }
};

// By whoever found them.
u64 all_completions(const Interval &i)
{
	return i.count(inline_completions) + i.count(polled_completions) + i.count(interrupt_completions) +
	       i.count(missed_wakeups);
}

enum class Kind {
	rate, // per second, or as a total
	megabytes, // the same, of bytes
	percent, // of its second figure
	state, // as it is now, or since the disk is there
};

struct Column {
	Kind kind;
	const char *title; // of a rate without its "/s"
	u64 (*value)(const Interval &);
	u64 (*of)(const Interval &) = nullptr;
};

constexpr Column columns[] = {
	{ Kind::rate, "r", [](const Interval &i) { return i.count(read_requests); } },
	{ Kind::rate, "w", [](const Interval &i) { return i.count(write_requests); } },
	{ Kind::rate, "d",
	  [](const Interval &i) { return i.count(discard_requests) + i.count(write_zeroes_requests); } },
	{ Kind::megabytes, "rMB", [](const Interval &i) { return i.count(read_bytes); } },
	{ Kind::megabytes, "wMB", [](const Interval &i) { return i.count(write_bytes); } },
	{ Kind::state, "queue", [](const Interval &i) { return i.is(queued); } },
	{ Kind::state, "flight", [](const Interval &i) { return i.is(in_flight); } },
	{ Kind::state, "host", [](const Interval &i) { return i.is(in_flight_host); } },
	{ Kind::state, "again", [](const Interval &i) { return i.is(in_flight_retry); } },
	{ Kind::state, "behind", [](const Interval &i) { return i.is(in_flight_flush); } },
	{ Kind::state, "space", [](const Interval &i) { return i.is(in_flight_space); } },
	{ Kind::percent, "inl%", [](const Interval &i) { return i.count(inline_completions); }, all_completions },
	{ Kind::percent, "poll%", [](const Interval &i) { return i.count(polled_completions); }, all_completions },
	{ Kind::rate, "irq", [](const Interval &i) { return i.count(interrupts); } },
	{ Kind::rate, "call", [](const Interval &i) { return i.count(submit_calls); } },
	{ Kind::rate, "flush", [](const Interval &i) { return i.count(flush_requests); } },
	{ Kind::rate, "commit", [](const Interval &i) { return i.count(commits); } },
	{ Kind::state, "dirty", [](const Interval &i) { return i.is(dirty_sectors); } },
	{ Kind::state, "reserve",
	  [](const Interval &i) { return i.is(header_reserve_uses) + i.is(chunk_reserve_uses); } },
	{ Kind::state, "retry", [](const Interval &i) { return i.is(chunks_retried) + i.is(submit_retries); } },
	{ Kind::state, "error", [](const Interval &i) { return i.is(errors); } },
};
constexpr size_t column_count = sizeof(columns) / sizeof(columns[0]);

std::string printed(const char *format, double value)
{
	char text[64];
	snprintf(text, sizeof(text), format, value);
	return text;
}

std::string cell(const Column &c, const Interval &i, bool totals)
{
	const u64 value = c.value(i);
	const double seconds = i.after.at - i.before.at;
	const double scaled = static_cast<double>(value) / (c.kind == Kind::megabytes ? 1e6 : 1);
	switch (c.kind) {
	case Kind::rate:
		if (totals)
			break;
		[[fallthrough]];
	case Kind::megabytes:
		return printed("%.1f", totals || seconds <= 0 ? scaled : scaled / seconds);
	case Kind::percent: {
		const u64 all = c.of(i);
		return all ? printed("%.0f", 100.0 * static_cast<double>(value) / static_cast<double>(all)) : "-";
	}
	case Kind::state:
		break;
	}
	return std::to_string(value);
}

std::string title(const Column &c, bool totals)
{
	const bool rate = c.kind == Kind::rate || c.kind == Kind::megabytes;
	return rate && !totals ? std::string(c.title) + "/s" : c.title;
}

// A counter that goes back is another disk of that name.
bool is_other(const Sample &before, const Sample &after)
{
	for (Figure f : { read_requests, write_requests, flush_requests, submit_calls })
		if (after[f] < before[f])
			return true;
	return false;
}

std::string right(const std::string &text, size_t width)
{
	return std::string(width > text.size() ? width - text.size() : 0, ' ') + text;
}

std::string left(const std::string &text, size_t width)
{
	return text + std::string(width > text.size() ? width - text.size() : 0, ' ');
}

} // namespace

Table::Row Table::row(const std::string &name, const Sample &before, const Sample &after) const
{
	const Interval interval{ before, after };
	Row r{ name, {} };
	for (const Column &c : columns)
		r.cells.push_back(cell(c, interval, totals));
	for (Figure f : { read_requests, write_requests, discard_requests, write_zeroes_requests, flush_requests })
		r.requests += interval.count(f);
	return r;
}

// The titles, each disk, and all of them if there are several.
std::vector<Table::Row> Table::rows(const Samples &before, const Samples &after) const
{
	std::vector<Row> out{ { "disk", {} } };
	for (const Column &c : columns)
		out[0].cells.push_back(title(c, totals));
	Sample all_before, all_after;
	all_before.at = before.at;
	all_after.at = after.at;
	for (const auto &[name, now] : after.disks) {
		Sample then;
		then.at = before.at;
		const auto found = before.disks.find(name);
		if (!totals && found != before.disks.end() && !is_other(found->second, now))
			then = found->second;
		out.push_back(row(name, then, now));
		for (unsigned f = 0; f < figures; f++) {
			all_before.figure[f] += then.figure[f];
			all_after.figure[f] += now.figure[f];
		}
	}
	if (after.disks.size() > 1)
		out.push_back(row("all", all_before, all_after));
	return out;
}

// The disks' names come first, then the columns.
void Table::widen(const std::vector<Row> &rows)
{
	if (widths_.empty() || were_totals_ != totals)
		widths_.assign(column_count + 1, 4);
	were_totals_ = totals;
	for (const Row &r : rows) {
		widths_[0] = std::max(widths_[0], r.name.size());
		for (size_t c = 0; c < column_count; c++)
			widths_[c + 1] = std::max(widths_[c + 1], r.cells[c].size());
	}
}

std::vector<Table::Part> Table::divide(size_t width) const
{
	std::vector<Part> parts;
	for (size_t first = 0, end; first < column_count; first = end) {
		size_t used = widths_[0];
		for (end = first;
		     end < column_count && (!width || end == first || used + 1 + widths_[end + 1] <= width); end++)
			used += 1 + widths_[end + 1];
		parts.push_back({ first, end });
	}
	return parts;
}

// Leaves `most` of the rows of disks, which are all but the first and the last:
// those with the most requests, in their order.
void Table::keep_busiest(std::vector<Row> &rows, size_t most)
{
	while (rows.size() > most + 2) {
		const auto least = std::min_element(rows.rbegin() + 1, rows.rend() - 1,
						    [](const Row &a, const Row &b) { return a.requests < b.requests; });
		rows.erase(std::next(least).base());
	}
}

std::vector<std::string> Table::lines(const Samples &before, const Samples &after, size_t width, size_t height)
{
	std::vector<Row> shown = rows(before, after);
	widen(shown);
	const std::vector<Part> parts = divide(width);
	const size_t between = parts.size() - 1;
	if (height && parts.size() * shown.size() + between > height)
		keep_busiest(shown, std::max<size_t>(height > between ? (height - between) / parts.size() : 0, 3) - 2);

	std::vector<std::string> out;
	for (const Part &part : parts) {
		if (part.first)
			out.push_back("");
		for (const Row &r : shown) {
			std::string line = left(r.name, widths_[0]);
			for (size_t c = part.first; c < part.end; c++)
				line += " " + right(r.cells[c], widths_[c + 1]);
			out.push_back(line);
		}
	}
	return out;
}

} // namespace ubd::top
