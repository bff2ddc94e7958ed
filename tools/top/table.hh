// SPDX-License-Identifier: GPL-2.0-only
/*
 * A report: what the disks did in an interval, or since they are there, as a
 * table of text.
 */
#ifndef UBD_TOOLS_TOP_TABLE_HH
#define UBD_TOOLS_TOP_TABLE_HH

#include "sample.hh"

namespace ubd::top
{

class Table {
public:
	// Totals, or rates per second.
	bool totals = false;

	// The table's lines, not wider than `width` where that is possible: what does
	// not fit stands below, each part with the disks' names. 0: as wide as it is.
	// If that is more than `height` lines (0: as many as there are), each part has
	// only those disks that do most. A disk that was not there before counts from 0.
	std::vector<std::string> lines(const Samples &before, const Samples &after, size_t width, size_t height);

private:
	struct Row {
		std::string name;
		std::vector<std::string> cells;
		u64 requests = 0; // in the interval
	};
	// Columns, from `first` on.
	struct Part {
		size_t first, end;
	};

	Row row(const std::string &name, const Sample &before, const Sample &after) const;
	std::vector<Row> rows(const Samples &before, const Samples &after) const;
	static void keep_busiest(std::vector<Row> &rows, size_t most);
	void widen(const std::vector<Row> &rows);
	std::vector<Part> divide(size_t width) const;

	std::vector<size_t> widths_; // a column never gets narrower: nothing jumps
	bool were_totals_ = false;
};

} // namespace ubd::top

#endif
