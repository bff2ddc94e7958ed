// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fuzzes the rules of faults on demand. What was accepted is shown by the engine
 * that obeys it, and what is shown has to be accepted as the same.
 */
#include "../../drivers/ubd/core/fault.hh"
#include "fuzz.hh"

#include <string>

using namespace ubd;
using namespace ubd::fuzz;

namespace
{

// Nothing is ever asked of them.
class NoEngine final : public Engine {
public:
	u32 capacity() const override { return 0; }
	u32 space() const override { return 0; }
	void prepare(Chunk &) override {}
	u32 unsent() const override { return 0; }
	Error submit() override { return no_error; }
	bool ready() const override { return false; }
	u32 reap(Completion *, u32) override { return 0; }
	void quiet() override {}
	bool listen() override { return false; }
	bool cancel(Chunk &) override { return false; }
	void wait() override {}
	u32 overflows() const override { return 0; }
	bool file_removed() const override { return false; }
	const char *name() const override { return "none"; }
};

class NoTimer final : public FaultTimer {
public:
	u64 now_ms() override { return 0; }
	void arm(u64) override {}
};

bool parse(const std::string &text, FaultRules &rules)
{
	const Exact<char> exact(text.data(), text.size());
	const Error e = FaultRules::parse(exact.get(), text.size(), rules);
	REQUIRE(!e || e.number == errno_inval);
	return !e;
}

void check_rule(const FaultRule &r)
{
	using Effect = FaultRule::Effect;
	REQUIRE(r.effect != Effect::none && r.effect <= Effect::drop);
	REQUIRE(!(r.any && r.on_submit) && r.op <= HostOp::allocate);
	REQUIRE((r.effect == Effect::fail) == (r.error > 0) && r.error < 4096);
	REQUIRE(!r.on_submit || (r.effect == Effect::fail && !r.delay_ms));
	REQUIRE(r.effect != Effect::late || r.delay_ms);
	REQUIRE(r.effect != Effect::drop || !r.delay_ms);
	REQUIRE(r.chance && r.chance <= 100 && r.every);
	for (u64 number : { r.delay_ms, r.seed, r.every, r.after, r.times == FaultRule::for_ever ? 0 : r.times })
		REQUIRE(number <= 999999999);
}

bool same(const FaultRule &a, const FaultRule &b)
{
	return a.effect == b.effect && a.on_submit == b.on_submit && a.any == b.any &&
	       (a.any || a.on_submit || a.op == b.op) && a.error == b.error && a.delay_ms == b.delay_ms &&
	       a.chance == b.chance && a.seed == b.seed && a.every == b.every && a.times == b.times &&
	       a.after == b.after;
}

std::string shown(const FaultRules &rules, size_t room)
{
	NoEngine engine;
	NoTimer timer;
	const auto faults = std::make_unique<FaultEngine>(engine, timer);
	faults->set(rules);
	const Exact<char> text(room);
	faults->show(text.get(), room);
	REQUIRE(std::memchr(text.get(), 0, room));
	return text.get();
}

// "read errno=5: hit 0 of 0\n...held back: ..." as it was written.
std::string rules_in(const std::string &text)
{
	std::string rules;
	for (size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
		const std::string line = text.substr(at, end - at);
		if (line.compare(0, 10, "held back:") != 0)
			rules += line.substr(0, line.find(": hit")) + ";";
	}
	return rules;
}

} // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	FaultRules rules, again;
	if (!parse(std::string(reinterpret_cast<const char *>(data), bytes), rules))
		return 0;
	REQUIRE(rules.count <= FaultRules::most);
	for (u32 i = 0; i < rules.count; i++)
		check_rule(rules.rule[i]);
	const std::string text = shown(rules, UBD_FAULT_TEXT_MAX);
	REQUIRE(parse(rules_in(text), again) && again.count == rules.count);
	for (u32 i = 0; i < rules.count; i++)
		REQUIRE(same(rules.rule[i], again.rule[i]));
	// With less room it is the same, but cut.
	for (size_t room : { 1, 2, 40, 100 })
		REQUIRE(shown(rules, room) == text.substr(0, room - 1));
	return 0;
}
