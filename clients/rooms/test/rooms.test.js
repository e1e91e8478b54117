import { describe, test } from "node:test";
import * as groups from "./cases.js";
import { World } from "./world.js";

for (const [group, cases] of Object.entries(groups)) {
  describe(group, () => {
    for (const [name, run] of Object.entries(cases)) {
      test(name, async () => {
        const world = new World();
        try {
          await run(world);
        } finally {
          world.end();
        }
      });
    }
  });
}
