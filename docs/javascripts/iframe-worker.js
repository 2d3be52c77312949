// Browsers let a page that was opened from a disk start no worker. The theme's search is
// one: there it runs in a frame, with the two ends of a worker's messages.
if (location.protocol === 'file:') {
  window.Worker = class extends EventTarget {
    constructor(script) {
      super();
      const frame = document.createElement('iframe');
      frame.hidden = true;
      this.started = new Promise((started) => {
        frame.addEventListener('load', () => {
          const inside = frame.contentWindow;
          inside.postMessage = (data) =>
            this.dispatchEvent(new MessageEvent('message', { data }));
          const program = inside.document.createElement('script');
          program.src = script;
          program.addEventListener('load', () => started(inside));
          inside.document.body.append(program);
        }, { once: true });
      });
      frame.srcdoc = '<body></body>';
      document.body.append(frame);
    }

    postMessage(data) {
      this.started.then((inside) =>
        inside.dispatchEvent(new MessageEvent('message', { data })));
    }
  };
}
